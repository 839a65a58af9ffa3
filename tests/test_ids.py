"""Ids in the order of their birth, and one spelling for transids and recipients."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.ids import (
    born_at,
    destination_digest,
    digest,
    first_id_at,
    leg_digest,
    new_id,
    normalise_destination,
    parse_id,
    transid_root,
)

KNOWN = UUID("019d0000-0000-7abc-8def-0123456789ab")


def test_each_id_is_greater_than_the_one_before() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_ids_are_unique_over_threads_and_grow_within_each() -> None:
    minted: list[list[UUID]] = []
    start = threading.Barrier(8)

    def mint() -> None:
        start.wait()
        minted.append([new_id() for _ in range(3_000)])

    threads = [threading.Thread(target=mint) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({identity for ids in minted for identity in ids}) == 24_000
    assert all(ids == sorted(ids) for ids in minted)


def test_an_id_is_a_uuid_of_version_7_that_knows_its_birth() -> None:
    before = datetime.now(UTC)
    identity = new_id()
    after = datetime.now(UTC)
    assert (identity.version, identity.variant) == (7, RFC_4122)
    # ids that were minted in the same instant are told apart by running ahead of the clock, 0.25 us each
    assert before - timedelta(milliseconds=1) <= born_at(identity) <= after + timedelta(seconds=1)


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(MOMENTS)
@settings(deadline=None)
@example(datetime(2038, 11, 21, 13, 7, 11, 660_000, UTC))
def test_the_first_id_of_a_moment_was_born_in_its_millisecond(moment: datetime) -> None:
    assert born_at(first_id_at(moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_the_first_id_of_a_moment_does_not_depend_on_its_zone() -> None:
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert first_id_at(moment) == first_id_at(moment.astimezone(timezone(timedelta(hours=5, minutes=30))))


def test_no_id_is_born_below_the_first_of_its_millisecond() -> None:
    identity = new_id()
    assert first_id_at(born_at(identity)) <= identity < first_id_at(born_at(identity) + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        "019d0000-0000-7abc-8def-0123456789ab",
        "019D0000-0000-7ABC-8DEF-0123456789AB",
        "019d000000007abc8def0123456789ab",
        "urn:uuid:019d0000-0000-7abc-8def-0123456789ab",
        "URN:UUID:019D0000-0000-7ABC-8DEF-0123456789AB",
        " 019d0000-0000-7abc-8def-0123456789ab\n",
    ],
)
def test_an_id_of_ours_is_known_in_any_usual_spelling(text: str) -> None:
    assert parse_id(text) == KNOWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "7f6d1c52-9a3e-4b0f-8c11-2d5e6f708192",  # of version 4
        "00000000-0000-0000-0000-000000000000",
        "{019d0000-0000-7abc-8def-0123456789ab}",
        "019d0000-0000-7abc-8def-0123456789ab_1",
        "019d0000-0000-7abc-0def-0123456789ab",  # another variant
        "019d0000-00007abc-8def-0123456789ab",
        "019d0000-0000-7abc-8def-0123456789a",
        "019d0000-0000-7abc-8def-0123456789aｂ",
        "019d0000-0000-7abc-8def-0123456789ab" * 2,
        "urn:uuid:" * 4 + "019d0000-0000-7abc-8def-0123456789ab",
        "4eef-92ca-79fd0250c4a3-262895e4-2217",
        "9" * 1_000_000,
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_id_of_ours_is_none(text: str) -> None:
    assert parse_id(text) is None


@given(st.text(max_size=70))
@settings(deadline=None)
def test_parsing_an_id_never_raises(text: str) -> None:
    identity = parse_id(text)
    assert identity is None or identity.version == 7


@pytest.mark.parametrize(
    ("transid", "root"),
    [
        ("3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1", "3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1"),
        ("3F09295D-9EB3", "3f09295d-9eb3"),
        ("e94cc49e-8b06c48fdc9d_10977_22757", "e94cc49e-8b06c48fdc9d"),
        ("x-226b48d66ba0_0", "x-226b48d66ba0"),
        (" x_1\n", "x"),
        ("urn:uuid:ABC", "abc"),
        ("URN:UUID:abc_7", "abc"),
        ("evt_123", "evt"),
        ("a_1_b", "a_1_b"),
        ("a_1_b_2", "a_1_b"),
        ("a_", "a_"),
        ("a__1", "a_"),
        ("a_1x", "a_1x"),
        ("_1", "_1"),
        ("_1_2", "_1_2"),
        ("", ""),
        ("STRASSE_1", "strasse"),
    ],
)
def test_the_root_of_a_transid_has_no_suffix_and_no_case(transid: str, root: str) -> None:
    assert transid_root(transid) == root


def test_only_an_empty_transid_has_an_empty_root() -> None:
    assert all(transid_root(text) for text in ("_0", "_1", "_1_2", "0", "_"))


def test_a_transid_of_a_megabyte_is_taken_as_it_is() -> None:
    assert transid_root("_1" * 500_000) == "_1" * 500_000


@pytest.mark.parametrize(
    "spelling",
    [
        "447700900001",
        "+447700900001",
        "00447700900001",
        "tel:+447700900001",
        "tel: 447700900001",
        "TEL:+44 7700 900001",
        "+44 (7700) 900-001",
        " 44.7700.900001 ",
        "+00447700900001",
        "sms:+447700900001",
        "sip:+447700900001@operator.example",
        "sips:+447700900001@operator.example",
        "tel:tel:447700900001",
        "+44\u00a07700\u00a0900001",
    ],
)
def test_a_number_has_one_spelling(spelling: str) -> None:
    assert normalise_destination(spelling) == "447700900001"
    assert destination_digest(spelling) == destination_digest("447700900001")


@pytest.mark.parametrize(
    ("destination", "normalised"),
    [
        ("", ""),
        ("2105", "2105"),
        ("0", "0"),
        ("00", "00"),
        ("000123", "000123"),  # no international prefix: no country code begins with 0
        ("07700900001", "07700900001"),
        ("X@Example.COM", "x@example.com"),
        ("mailto:X@Example.COM", "x@example.com"),
        ("mailto:12345@example.com", "12345@example.com"),
        ("12345@example.com", "12345@example.com"),
        ("sip:Alice@Operator.example", "alice@operator.example"),
        ("Customer-AbC", "Customer-AbC"),
        (" ejS3Ao5xQ0 ", "ejS3Ao5xQ0"),
        ("urn:mbid:AQAAY0000", "urn:mbid:AQAAY0000"),
        ("+", "+"),
        ("()", "()"),
        ("4477x", "4477x"),
        ("٤٤٧٧", "٤٤٧٧"),
        ("tel:", ""),
        ("1" * 65, "1" * 65),
    ],
    ids=lambda text: text[:24],
)
def test_other_recipients_keep_what_may_matter(destination: str, normalised: str) -> None:
    assert normalise_destination(destination) == normalised


PIECES = st.sampled_from(
    [
        "tel:",
        "TEL: ",
        "sip:",
        "ſip:",
        "mailto:",
        "sms:",
        "0",
        "00",
        "1",
        "44",
        "+",
        "-",
        " ",
        "(",
        ")",
        ".",
        "@",
        "X",
        "x",
        ":",
        "\n",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=12).map("".join)))
@settings(max_examples=500, deadline=None)
@example("tel:tel:1")
@example("0000441")
@example("mailto:tel:1@x")
@example("ſms:A@b")
def test_what_is_normalised_does_not_change_again(destination: str) -> None:
    once = normalise_destination(destination)
    assert normalise_destination(once) == once


@given(st.text())
@settings(deadline=None)
def test_a_digest_is_16_bytes_of_any_text(text: str) -> None:
    assert len(digest(text)) == 16
    assert len(digest(text + "\ud800")) == 16


def test_digests_are_stored_and_never_change() -> None:
    assert digest("").hex() == "cae66941d9efbd404e4d88758ea67670"
    assert destination_digest("+447700900001") == digest("447700900001")
    assert leg_digest("n1", "+447700900001") == digest("n1\0" + "447700900001")


def test_a_leg_is_told_by_its_node_and_its_recipient() -> None:
    legs = [("", "447700900001"), ("n1", "447700900001"), ("", "447700900002"), ("447700900001", "")]
    assert len({leg_digest(*leg) for leg in legs}) == 4
    assert leg_digest("n1", "tel:+447700900001") == leg_digest("n1", "447700900001")
