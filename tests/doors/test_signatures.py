"""The platform's signature and the required header: what is good, what is not, and what a refusal leaves behind."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import metrics
from receiver.access.refusals import LOG_SECONDS, Refusals
from receiver.access.signatures import MOST_SIGNATURES, NO_PROTECTION, Protection, Refusal, Signed
from receiver.tenant_settings import Tenant
from tests.doors.telling import signature

SECRET = "what the platform signs with"
BEFORE = "what it signed with before"
BODY = b'\xef\xbb\xbf{"deliveryInfoNotification": {"carrier": "\xff"}} \r\n'
GOOD = signature(SECRET, BODY)
GOOD_512 = signature(SECRET, BODY, "sha512")
SIGNS = Protection.of(Tenant("x", signature_secrets=(SECRET, BEFORE), signature_required=True))


def signed(*values: str, body: bytes = BODY, protection: Protection = SIGNS) -> Signed:
    return protection.signed([(b"x-hub-signature", value.encode("latin-1")) for value in values], body)


@pytest.mark.parametrize(
    "told",
    [
        GOOD,
        GOOD.upper(),
        f"sha256={GOOD}",
        f"SHA256={GOOD}",
        f"  sha256={GOOD}\t",
        f"sha256 = {GOOD}",
        GOOD_512,
        f"sha512={GOOD_512}",
        f"Sha512={GOOD_512.upper()}",
        signature(BEFORE, BODY),
        f"sha1={signature(SECRET, BODY, 'sha1')},sha256={GOOD}",
        f"sha256={'0' * 64}, sha256={GOOD}",
    ],
)
def test_a_good_signature_is_good_in_every_spelling(told: str) -> None:
    assert signed(told) is Signed.GOOD


@pytest.mark.parametrize(
    "told",
    [
        "",
        "   ",
        "sha256=",
        GOOD[:-1],
        GOOD + "0",
        f"sha512={GOOD}",
        f"sha256={GOOD_512}",
        f"md5={GOOD}",
        f"sha256=sha256={GOOD}",
        f"{GOOD[:32]} {GOOD[32:]}",
        signature("another secret altogether", BODY),
        signature(SECRET, BODY.removeprefix(b"\xef\xbb\xbf")),
        signature(SECRET, BODY.strip()),
        signature("", BODY),
        signature(SECRET, BODY, "sha1"),
        f"sha1={signature(SECRET, BODY, 'sha1')}",
        f"sha1={GOOD}",
        GOOD.translate({ord("a"): "\xe0", ord("0"): "\xb2"}) + "\xff",
        "," * 100 + GOOD,
    ],
)
def test_anything_else_is_wrong(told: str) -> None:
    assert signed(told) is Signed.WRONG


def test_one_good_line_of_several_is_enough_and_only_the_first_few_are_looked_at() -> None:
    wrong = "0" * 64
    assert signed(wrong, GOOD) is signed(GOOD, wrong) is Signed.GOOD
    assert signed(*[wrong] * (MOST_SIGNATURES - 1), GOOD) is Signed.GOOD
    assert signed(*[wrong] * MOST_SIGNATURES, GOOD) is Signed.WRONG


@given(st.lists(st.binary(max_size=80), max_size=4), st.binary(max_size=40))
def test_no_header_makes_the_check_fail_otherwise(values: list[bytes], body: bytes) -> None:
    found = SIGNS.signed([(b"x-hub-signature", value) for value in values], body)
    assert found is (Signed.WRONG if values else Signed.MISSING)


@pytest.mark.parametrize(
    ("required", "found", "refusal"),
    [
        (True, Signed.GOOD, None),
        (True, Signed.MISSING, Refusal.SIGNATURE_MISSING),
        (True, Signed.WRONG, Refusal.SIGNATURE_WRONG),
        (False, Signed.GOOD, None),
        (False, Signed.MISSING, None),
        (False, Signed.WRONG, Refusal.SIGNATURE_WRONG),
    ],
)
def test_a_wrong_signature_is_refused_and_a_missing_one_where_it_is_required(
    required: bool, found: Signed, refusal: Refusal | None
) -> None:
    assert Protection(secrets=(b"x",), signature_required=required).refusal(found) is refusal


BASIC = "Basic cmVjZWlwdHM6Y29ycmVjdCBob3JzZQ=="
ASKS = Protection.of(Tenant("x", notify_header="authorization", notify_header_values=(BASIC, "the key of last month")))


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        ([("authorization", BASIC)], True),
        ([("Authorization", BASIC)], True),
        ([("authorization", f" {BASIC} ")], True),
        ([("authorization", "the key of last month")], True),
        ([("authorization", "no"), ("authorization", BASIC)], True),
        ([], False),
        ([("authorization", "")], False),
        ([("authorization", BASIC.lower())], False),
        ([("authorization", BASIC + "x")], False),
        ([("authorization", f"{BASIC}, {BASIC}")], False),
        ([("x-api-key", BASIC)], False),
        ([("authorization", "\xff")], False),
    ],
)
def test_the_required_header_must_have_an_accepted_value_to_the_letter(
    lines: list[tuple[str, str]], good: bool
) -> None:
    assert ASKS.header_is_good([(name.encode(), value.encode("latin-1")) for name, value in lines]) is good


def test_without_a_required_header_any_request_has_it() -> None:
    assert NO_PROTECTION.header_is_good([])


def test_what_protects_is_what_a_forger_can_not_leave_out() -> None:
    assert NO_PROTECTION.only_token
    assert Protection(secrets=(b"x",)).only_token
    assert not SIGNS.only_token
    assert not ASKS.only_token


def test_no_secret_stands_in_a_repr() -> None:
    for text in (repr(SIGNS), repr(ASKS)):
        assert SECRET not in text
        assert BASIC not in text
        assert "\\x" not in text


def count_of(reason: str, tenant: str) -> float:
    return (
        metrics.REGISTRY.get_sample_value("receiver_notify_refusals_total", {"reason": reason, "tenant": tenant}) or 0.0
    )


def test_a_storm_of_refusals_is_counted_and_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    refusals = Refusals(lambda: now)
    before = count_of("signature_wrong", "storm")
    with caplog.at_level(logging.DEBUG):
        for _ in range(10_000):
            refusals.count(Refusal.SIGNATURE_WRONG, "storm")
        refusals.count(Refusal.HEADER, "storm")
        now += LOG_SECONDS - 0.1
        refusals.count(Refusal.SIGNATURE_WRONG, "storm")
        now += 0.1
        refusals.count(Refusal.SIGNATURE_WRONG, "storm")
    assert count_of("signature_wrong", "storm") == before + 10_002

    def told(record: Any) -> tuple[str, str, int]:
        return record.reason, record.tenant, record.refused

    assert [told(record) for record in caplog.records] == [
        ("signature_wrong", "storm", 1),
        ("header", "storm", 1),
        ("signature_wrong", "storm", 10_001),
    ]
