"""The country of a recipient."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.messages.country import country_of


@pytest.mark.parametrize(
    ("recipient", "country"),
    [
        ("447700900001", "GB"),
        ("447781123456", "GG"),  # Guernsey, under Britain's code
        ("447624123456", "IM"),
        ("12025550123", "US"),
        ("18765550123", "JM"),
        ("79161234567", "RU"),
        ("77012345678", "KZ"),
        ("33612345678", "FR"),
        ("358401234567", "FI"),
        ("870773111632", "001"),  # a satellite's: no country's
    ],
)
def test_a_number_has_the_country_of_its_plan(recipient: str, country: str) -> None:
    assert country_of(recipient, "msisdn") == country_of(recipient) == country


@pytest.mark.parametrize(
    "recipient", ["", "999", "0123456789", "00000000", "jo@example.com", "4477009000011234", "٤٤٧٧٠٠٩٠٠٠٠١"]
)
def test_what_is_no_international_number_has_none(recipient: str) -> None:
    assert country_of(recipient) is None


def test_a_customer_whose_id_looks_like_a_number_has_none() -> None:
    assert country_of("447700900001", "customerid") is None
    assert country_of("447700900001", "MSISDN") == "GB"


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,18}", fullmatch=True))
def test_no_text_breaks_it(recipient: str) -> None:
    assert country_of(recipient) is None or len(country_of(recipient) or "") in (2, 3)
