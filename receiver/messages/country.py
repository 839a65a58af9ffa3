"""The country of a recipient, by the numbering plans of the library `phonenumbers`."""

from functools import lru_cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE as REGIONS

SHORTEST, LONGEST = 7, 15  # digits: below are short numbers of one country or another, above is no number (E.164)
# Where several countries share a code, so many digits tell whose a number is: in North America those of the area,
# elsewhere five digits behind the code, such as Guernsey's 44 7911 1. Rounding costs a few islands, and saves 80 µs.
_AREA, _PREFIX = 4, 7


def country_of(recipient: str, id_type: str | None = None) -> str | None:
    """What ISO 3166 calls the country of a normalised destination (`447700900001`: `GB`), None where none is known.

    `001` is a number of no country (satellites, international networks). An `id_type` other than msisdn is no phone
    number, however it looks.
    """
    if not SHORTEST <= len(recipient) <= LONGEST or not recipient.isdigit() or not recipient.isascii():
        return None
    if id_type and id_type.lower() != "msisdn":
        return None
    for digits in (2, 1, 3):  # no code is the beginning of another
        regions = REGIONS.get(int(recipient[:digits])) if recipient[0] != "0" else None
        if regions is not None:
            if len(regions) == 1:
                return regions[0]
            return _within(recipient[: _AREA if digits == 1 and recipient[0] == "1" else _PREFIX], len(recipient))
    return None


@lru_cache(maxsize=16_384)  # 3 MB at most
def _within(prefix: str, length: int) -> str | None:
    """The country of numbers that begin so; where they fit none of those that share the code, the main one."""
    try:
        number = phonenumbers.parse("+" + prefix.ljust(length, "0"))
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.region_code_for_number(number) or REGIONS[number.country_code or 0][0]
