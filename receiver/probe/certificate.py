"""When a certificate ends, from its DER: `ssl` tells it only of one that it verified, so never of an expired one."""

from datetime import UTC, datetime

_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3  # serial number, algorithm, issuer


def not_after(der: bytes) -> datetime:
    """The end of a certificate's validity. Raises ValueError for what is no certificate."""
    try:
        _, at, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, at)  # TBSCertificate
        tag, _, end = _element(der, at)
        at = end if tag == _VERSION else at
        for _ in range(_BEFORE_VALIDITY):
            _, _, at = _element(der, at)
        _, at, _ = _element(der, at)  # Validity
        _, _, at = _element(der, at)
        tag, at, end = _element(der, at)
    except IndexError:
        raise ValueError("the certificate ends in the middle") from None
    text = der[at:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 is 1950
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate names no end")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the content of the element at `at`."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        length, at = int.from_bytes(der[at : at + digits], "big"), at + digits
    return tag, at, at + length
