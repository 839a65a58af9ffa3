"""Notify tokens: what we signed is read, whoever asks and how often; nothing else is."""

import base64
import hashlib
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.access.tokens import MOST_KNOWN, NotifyToken, NotifyTokens
from receiver.ids import SubmissionId, new_id

SUBMISSION = SubmissionId(new_id())


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), st.booleans())
def test_a_token_says_what_was_signed_every_time_it_is_read(tenant: str, has_submission: bool) -> None:
    tokens, submission = NotifyTokens("secret"), SUBMISSION if has_submission else None
    token = tokens.sign(tenant, submission)
    assert [tokens.read(token) for _ in range(3)] == [NotifyToken(tenant, submission)] * 3


def test_a_token_is_the_payload_with_half_its_hmac() -> None:
    """It stands in addresses that the platform keeps: it must be good after any update."""
    key = hashlib.sha256(b"receiver notify token\0secret").digest()
    payload = b"\x01\x01" + SUBMISSION.bytes + b"default"
    signed = base64.urlsafe_b64encode(payload + hmac.digest(key, payload, "sha256")[:16]).rstrip(b"=").decode()
    assert NotifyTokens("secret").sign("default", SUBMISSION) == signed


def test_the_previous_secret_still_reads() -> None:
    old = NotifyTokens("old").sign("default")
    assert NotifyTokens("new", "old").read(old) == NotifyToken("default", None)
    assert NotifyTokens("new").read(old) is None


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: "B" + t[1:], lambda t: t + "A", lambda t: t.swapcase()])
def test_a_token_that_was_changed_is_bad_before_and_after_the_good_one_was_read(change: Callable[[str], str]) -> None:
    tokens = NotifyTokens("secret")
    good = tokens.sign("default", SUBMISSION)
    assert tokens.read(change(good)) is None
    assert tokens.read(good) is not None
    assert tokens.read(change(good)) is None


def test_every_token_is_read_however_many_there_are() -> None:
    tokens = NotifyTokens("secret")
    submissions = [SubmissionId(new_id()) for _ in range(MOST_KNOWN + 10)]
    signed = [tokens.sign("default", submission) for submission in submissions]
    for _ in range(2):
        assert [tokens.read(token) for token in signed] == [NotifyToken("default", s) for s in submissions]
    assert len(tokens._known) == MOST_KNOWN
