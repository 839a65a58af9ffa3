"""Reading Server-Sent Events: by the book, and however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.client.errors import Garbled
from receiver.client.events import LONGEST_EVENT, LONGEST_LINE, Event, EventParser


def read(*parts: bytes) -> tuple[list[Event], str, int | None]:
    parser = EventParser()
    events = [event for part in parts for event in parser.feed(part)]
    return events, parser.last_id, parser.retry


BOOK = [
    ("a comment is nothing", b": hello\n\n", []),
    ("lines of data are joined", b"data: a\ndata:b\ndata\ndata:  c\n\n", [("message", "a\nb\n\n c", "")]),
    ("a name and an id", b"event: change\nid: 7\ndata: x\n\n", [("change", "x", "7")]),
    ("an id stays", b"id: 7\ndata: x\n\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "7")]),
    ("an id without data is none the less told", b"id: 7\n\ndata: y\n\n", [("message", "y", "7")]),
    ("an empty id takes it back", b"id: 7\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "")]),
    ("an id with NUL is none", b"id: 7\0\ndata: x\n\n", [("message", "x", "")]),
    ("a name is of one event", b"event: a\n\ndata: x\n\n", [("message", "x", "")]),
    ("an unknown field is nothing", b"colour: red\ndata: x\n\n", [("message", "x", "")]),
    ("a colon belongs to the value", b"data: a:b\n\n", [("message", "a:b", "")]),
    (
        "ends of lines of all kinds",
        b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r",
        [("message", "a\nb\nc", ""), ("message", "d", "")],
    ),
    ("a mark of the order of bytes", b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    ("what is no UTF-8", b"data: \xff\n\n", [("message", "\ufffd", "")]),
    ("what has no end is no event", b"data: a\n\ndata: b\n", [("message", "a", "")]),
]


@pytest.mark.parametrize(("stream", "events"), [case[1:] for case in BOOK], ids=[case[0] for case in BOOK])
def test_events_are_read_by_the_book(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    assert read(stream)[0] == events
    assert read(*(stream[i : i + 1] for i in range(len(stream))))[0] == events


def test_the_other_side_may_ask_for_a_pause() -> None:
    assert read(b"retry: 2500\nretry: soon\nretry: -1\n\n")[2] == 2500
    assert read(b"retry:\n\n")[2] is None


WORDS = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"x",
        b"12",
        b"\0",
        b"\xc3\xa9",
        b"\xff",
    ]
)


@given(st.lists(WORDS, max_size=60).map(b"".join), st.data())
def test_any_splitting_of_the_bytes_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*parts) == read(stream)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
            st.sampled_from(["\n", "\r\n", "\r"]),
        ),
        max_size=8,
    )
)
def test_what_was_written_is_read(data: list[tuple[str, str]]) -> None:
    stream = "".join(f"data: {text}{end}{end}" for text, end in data if not text.startswith("\0"))
    told = [text for text, _ in data if not text.startswith("\0")]
    assert [event.data for event in read(stream.encode())[0]] == told


def test_a_line_and_an_event_have_bounds() -> None:
    with pytest.raises(Garbled):
        read(*[b"x" * 4096] * (LONGEST_LINE // 4096 + 1))
    with pytest.raises(Garbled):
        read(b"data: " + b"x" * LONGEST_LINE + b"\n\n")
    with pytest.raises(Garbled):
        read(*[b"data: " + b"x" * 1000 + b"\n"] * (LONGEST_EVENT // 1000 + 1))
