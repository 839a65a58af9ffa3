"""Going on after a loss: each change and each message once, wherever the connection breaks."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice

import pytest

from receiver.client.calls import Answer, Call
from receiver.client.errors import ApiError, CannotResume, Garbled, NoAnswer
from receiver.client.exporting import MOST_TRIES, Format, Records, export, messages
from receiver.client.steps import LONGEST_ASKED, LONGEST_PAUSE, Manners
from receiver.client.streaming import stream
from receiver.client.waiting import wait
from tests.cli.walking import Parts, Walk

MANNERS = Manners("http://receiver.example")
STREAM = Answer(200, {"content-type": "text/event-stream; charset=utf-8"})
OK = Answer(200, {})
EXPORTED: dict[Format, Answer] = {
    "ndjson": Answer(200, {"content-type": "application/x-ndjson"}),
    "csv": Answer(200, {"content-type": "text/csv; charset=utf-8"}),
}
GONE = Answer(0, {})


def problem(status: int, code: str, **headers: str) -> Answer:
    body = {"title": f"No: {code}.", "code": code, "status": status, "errors": []}
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


# ---- the stream

CHANGES = 4


def event(number: int) -> bytes:
    return f'event: change\r\nid: {number}\r\ndata: {{"number":{number}}}\r\n\r\n: still here\r\n\r\n'.encode()


def events_after(call: Call) -> bytes:
    """What a receiver sends to who comes with that id."""
    last = int(call.headers.get("last-event-id", "0"))
    first = f'retry: 10\nevent: ready\nid: {last}\ndata: {{"resumed":true}}\n\n'.encode()
    return first + b"".join(event(number) for number in range(last + 1, CHANGES + 1))


WHOLE = len(events_after(Call("GET", "/")))


@pytest.mark.parametrize("in_order", [True, False], ids=["ended", "broken"])
def test_a_stream_that_breaks_at_any_byte_tells_each_change_once(in_order: bool) -> None:
    for cut in range(WHOLE + 1):
        cuts = iter([cut])

        def says(call: Call, cuts: Iterator[int] = cuts) -> tuple[Answer, Parts]:
            whole = events_after(call)
            at = next(cuts, None)
            return STREAM, [whole] if at is None else [whole[:at]] if in_order else [whole[:at], None]

        flow = stream({}, None, MANNERS, False)
        told = [change.data["number"] for change in islice(Walk(says).each(flow), CHANGES)]
        assert told == [1, 2, 3, 4], cut


def test_a_stream_that_is_dropped_a_hundred_times_tells_each_change_once() -> None:
    def says(call: Call) -> tuple[Answer, Parts]:
        last = int(call.headers.get("last-event-id", "0"))
        whole = event(last + 1) + event(last + 2) + b'event: dropped\ndata: {"reason":"overflow","resume_from":"x"}\n\n'
        return STREAM, [whole[: 60 + last % 90], None]

    walk = Walk(says)
    told = [change.data["number"] for change in islice(walk.each(stream({}, None, MANNERS, False)), 150)]
    assert told == list(range(1, 151))
    assert len(walk.calls) >= 100


def test_a_receiver_that_was_there_is_waited_for_with_growing_pauses() -> None:
    answers = iter([STREAM, *[GONE] * 12, problem(503, "too_many_streams", retry_after="5"), STREAM])

    def says(call: Call) -> tuple[Answer, Parts]:
        answer = next(answers)
        return answer, [event(int(call.headers.get("last-event-id", "0")) + 1)] if answer is STREAM else []

    walk = Walk(says)
    told = [change.id for change in islice(walk.each(stream({}, None, MANNERS, False)), 2)]
    assert told == ["1", "2"]
    assert max(walk.slept) <= LONGEST_PAUSE
    assert sorted(walk.slept[:6]) == walk.slept[:6] or walk.slept[5] > walk.slept[0]
    assert 5 <= walk.slept[-1] <= 5.5


def test_nobody_is_waited_for_who_never_was_there() -> None:
    walk = Walk(lambda call: (GONE, []))
    with pytest.raises(NoAnswer):
        next(walk.each(stream({}, None, MANNERS, False)))
    assert len(walk.calls) == 1 + MANNERS.retries


RESTORED = b'event: closing\ndata: {"reason":"restored","text":"Begin anew.","resume_from":null}\n\n'


@pytest.mark.parametrize(
    ("answer", "parts", "code"),
    [
        (problem(410, "event_too_old"), [], "event_too_old"),
        (problem(400, "bad_event_id"), [], "bad_event_id"),
        (STREAM, [RESTORED], "restored"),
    ],
    ids=["too old", "foreign", "restored"],
)
def test_a_stream_that_can_not_go_on_says_so(answer: Answer, parts: Parts, code: str) -> None:
    with pytest.raises(CannotResume) as caught:
        next(Walk(lambda call: (answer, parts)).each(stream({}, "7", MANNERS, False)))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("answer", "parts", "error"),
    [
        (problem(401, "unauthorized"), [], ApiError),
        (problem(400, "bad_parameter"), [], ApiError),
        (OK, [b"<html>"], ApiError),
        (STREAM, [b"event: change\ndata: {\n\n"], Garbled),
        (STREAM, [b"event: change\ndata: []\n\n"], Garbled),
    ],
    ids=["key", "parameter", "another server", "no JSON", "no object"],
)
def test_what_does_not_pass_is_raised_at_once(answer: Answer, parts: Parts, error: type[Exception]) -> None:
    walk = Walk(lambda call: (answer, parts))
    with pytest.raises(error):
        next(walk.each(stream({}, None, MANNERS, False)))
    assert len(walk.calls) == 1


def test_checkpoints_move_the_place_from_where_it_goes_on() -> None:
    parts = [b"event: checkpoint\nid: 9\ndata: {}\n\n", None]
    walk = Walk(lambda call: (STREAM, parts))
    found = list(islice(walk.each(stream({}, None, MANNERS, True)), 2))
    assert [(one.name, one.id) for one in found] == [("checkpoint", "9")] * 2
    assert [call.headers.get("last-event-id") for call in walk.calls] == [None, "9"]


# ---- exports

LINES = [f'{{"id":"{number}","text":"é\\n{number}"}}\n'.encode() for number in range(1, 6)]
HEAD = b"id,state,text\r\n"
ROWS = [f'{number},delivered,"a ""b""\r\nc,é"\r\n'.encode() for number in range(1, 6)]
FORMS: dict[Format, tuple[bytes, list[bytes]]] = {"ndjson": (b"", LINES), "csv": (HEAD, ROWS)}


def as_it_is(part: bytes) -> list[bytes]:
    return [part]


def exported(form: Format, call: Call) -> bytes:
    head, records = FORMS[form]
    return head + b"".join(records[int(dict(call.parameters).get("after", "0")) :])


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_breaks_at_any_byte_has_each_record_once(form: Format) -> None:
    whole = exported(form, Call("GET", "/"))
    for cut in range(len(whole) + 1):
        cuts = iter([cut, cut, 0])

        def says(call: Call, cuts: Iterator[int] = cuts) -> tuple[Answer, Parts]:
            at, rest = next(cuts, None), exported(form, call)
            return EXPORTED[form], [rest] if at is None else [rest[:at], None]

        flow = export({"state": ["failed"]}, form, None, MANNERS, as_it_is)
        told: list[bytes] = list(Walk(says).each(flow))
        assert b"".join(told) == whole, cut


@pytest.mark.parametrize("form", FORMS)
def test_an_export_goes_on_behind_what_a_file_holds(form: Format) -> None:
    walk = Walk(lambda call: (EXPORTED[form], [exported(form, call)]))
    assert b"".join(walk.each(export({}, form, "3", MANNERS, as_it_is))) == b"".join(FORMS[form][1][3:])


def _says(form: Format, part: bytes, _call: Call) -> tuple[Answer, Parts]:
    return EXPORTED[form], [part]


def test_an_export_of_nothing_ends() -> None:
    for form, (head, _) in FORMS.items():
        walk = Walk(partial(_says, form, head))
        assert b"".join(walk.each(export({}, form, None, MANNERS, as_it_is))) == head
        assert len(walk.calls) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("answer", [OK, Answer(302, {"location": "/login"}), STREAM], ids=["bare", "redirect", "other"])
def test_an_answer_of_another_server_is_no_export_of_nothing(form: Format, answer: Answer) -> None:
    with pytest.raises(ApiError, match="is no receiver"):
        list(Walk(lambda call: (answer, [])).each(export({}, form, None, MANNERS, as_it_is)))


def test_no_pause_is_longer_than_a_clock_can_take() -> None:
    answers = iter([STREAM, problem(503, "busy", retry_after="1e300")])

    def says(_: Call) -> tuple[Answer, Parts]:
        return next(answers, problem(403, "forbidden")), [b"retry: 999999999999999\ndata: {}\n\n"]

    walk = Walk(says)
    with pytest.raises(ApiError, match="forbidden"):
        list(walk.each(stream({}, None, MANNERS, False)))
    after_the_stream, asked = walk.slept
    assert after_the_stream <= 1.5 * LONGEST_PAUSE
    assert asked <= 1.1 * LONGEST_ASKED


def test_an_export_that_never_comes_on_is_given_up() -> None:
    answers = iter([EXPORTED["ndjson"]])
    walk = Walk(lambda call: (next(answers, GONE), [LINES[0], None]))
    with pytest.raises(NoAnswer):
        list(walk.each(export({}, "ndjson", None, MANNERS, messages)))
    assert len(walk.calls) == 1 + MOST_TRIES


def test_too_many_exports_is_told_and_not_slept_over() -> None:
    walk = Walk(lambda call: (problem(503, "exports_under_way", retry_after="30"), []))
    with pytest.raises(ApiError, match="exports_under_way"):
        list(walk.each(export({}, "ndjson", None, MANNERS, messages)))
    assert walk.slept == []


@pytest.mark.parametrize("form", FORMS)
def test_records_are_the_same_however_they_are_cut(form: Format) -> None:
    whole = exported(form, Call("GET", "/")) + b"6,cut"
    for size in (1, 2, 3, 7, 1000):
        records = Records(form)
        parts = [records.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert (records.head, b"".join(parts)) == (FORMS[form][0], b"".join(FORMS[form][1]))
        assert (records.last_id, records.is_whole) == ("5", False)


def test_what_is_no_export_is_told() -> None:
    for part in (b"<html>\n", b"[]\n", b'{"no":1}\n'):
        with pytest.raises(Garbled):
            Records("ndjson").feed(part)


# ---- waiting


def message(state: str, final: bool, etag: str, ended: str | None = None) -> tuple[Answer, Parts]:
    headers = {"etag": etag} | ({"x-wait": ended} if ended else {})
    return Answer(
        200, headers, json.dumps({"id": "1", "state": state, "final": final, "submitted_at": None}).encode()
    ), []


class Clock:
    """A second passes with each look at it."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


ACCEPTED = message("accepted", False, "a")
UNCHANGED: tuple[Answer, Parts] = (Answer(304, {"etag": "a", "x-wait": "timeout"}), [])
WAITS = [
    ("delivered", [ACCEPTED, UNCHANGED, message("delivered", True, "b", "met")], "reached"),
    ("delivered", [message("read", True, "b")], "reached"),
    ("delivered", [ACCEPTED, message("undelivered", True, "b", "met")], "unreachable"),
    ("final", [ACCEPTED, message("undelivered", True, "b", "met")], "reached"),
    ("submitted", [ACCEPTED, message("submitted", False, "b", "met")], "reached"),
    ("submitted", [message("ended", False, "b")], "reached"),
    ("change", [ACCEPTED, UNCHANGED, message("submitted", False, "b", "met")], "reached"),
    ("change", [message("delivered", True, "b"), (Answer(304, {"etag": "b", "x-wait": "timeout"}), [])], "timeout"),
    (
        "final",
        [ACCEPTED, message("accepted", False, "a", "draining"), (GONE, []), (GONE, []), message("read", True, "b")],
        "reached",
    ),
    (
        "final",
        [ACCEPTED, (problem(503, "too_many_waiters", retry_after="0"), []), message("read", True, "b")],
        "reached",
    ),
    ("delivered", [ACCEPTED, UNCHANGED], "timeout"),
    ("final", [ACCEPTED, (GONE, [])], "timeout"),
]


@pytest.mark.parametrize(("until", "answers", "outcome"), WAITS, ids=range(len(WAITS)))
def test_a_wait_ends_as_it_must(until: str, answers: list[tuple[Answer, Parts]], outcome: str) -> None:
    told = iter(answers)
    walk = Walk(lambda call: next(told, answers[-1]))
    waited = walk.result(wait("1", until, 60.0, MANNERS, Clock()))  # type: ignore[arg-type]
    assert waited.outcome == outcome
    assert waited.message["id"] == "1"
    if outcome == "reached":
        assert next(told, None) is None


def test_a_wait_for_what_is_not_there_is_told_at_once() -> None:
    walk = Walk(lambda call: (problem(404, "message_not_found"), []))
    with pytest.raises(ApiError, match="message_not_found"):
        walk.result(wait("1", "final", 60.0, MANNERS, Clock()))
    assert len(walk.calls) == 1
    walk = Walk(lambda call: (GONE, []))
    with pytest.raises(NoAnswer):
        walk.result(wait("1", "final", 600.0, MANNERS, Clock()))
    assert len(walk.calls) == 1 + MANNERS.retries
