"""Numbers that are too long to be read: what the quarantine says of their bodies."""

import pytest

from tests.receipts.reading import body, one, refused

INFO = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": "447700900001"}
GOOD = body(INFO, transid="t-1")
MOST = 4_300
DETAIL = "a whole number of more than 4,300 digits: none so long is read"


def having(number: str) -> bytes:
    """A good body whose transid is this number."""
    return GOOD.replace(b'"t-1"', number.encode())


@pytest.mark.parametrize("sign", ["", "-"])
def test_the_longest_whole_number_that_is_read_is_a_text_like_any_other(sign: str) -> None:
    assert one(having(sign + "9" * MOST)).transid == sign + "9" * MOST


@pytest.mark.parametrize(
    "raw",
    [
        having("9" * (MOST + 1)),
        having("-" + "9" * (MOST + 1)),
        having("9" * 1_000_000),
        b"9" * 5_000,
        b"[" + b"9" * 5_000 + b"]",
        b"[" + GOOD + b"," + b"9" * 5_000 + b"]",
    ],
    ids=["a digit too many", "negative", "a megabyte", "alone", "in a list", "beside a receipt"],
)
def test_a_longer_one_is_quarantined_and_the_detail_says_that_it_is_the_number(raw: bytes) -> None:
    reject = refused(raw)
    assert (reject.reason, reject.detail, reject.body) == ("not_json", DETAIL, raw)


def test_a_longer_one_inside_a_text_of_json_is_named_too() -> None:
    assert refused(b'{"requestData":"{\\"transid\\":' + b"9" * 5_000 + b'}"}').detail == DETAIL


@pytest.mark.parametrize("number", ["9" * 5_000 + ".5", "1e5000"])
def test_a_number_with_a_fraction_or_an_exponent_is_read_whatever_its_length(number: str) -> None:
    assert one(having(number)).transid == "inf"


def test_what_is_no_json_keeps_its_own_detail() -> None:
    assert "digits" not in (refused(GOOD[:-1]).detail or "")
