"""What is to be done about a message that nothing final was told of: one pure decision."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.environment import Reader, Setting
from receiver.messages.lattice import Channel, State, is_final
from receiver.messages.patience import SWEPT, Decision, Seen, What, decide, grace, waits_of
from receiver.waits import DEFAULTS, LEAST_USUAL, Waits, duration_text, longest_patience, read_duration, read_waits
from tests.test_docs import table

SENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAITS = waits_of(DEFAULTS)
HOUR = timedelta(hours=1)

durations = st.timedeltas(timedelta(seconds=1), timedelta(days=40))
channels = st.sampled_from(Channel)


@st.composite
def waits(draw: st.DrawFn) -> Waits:
    usual = draw(st.timedeltas(LEAST_USUAL, timedelta(days=10)))
    return Waits(usual, usual + draw(durations))


@given(st.sampled_from(State), channels, waits(), durations, durations, st.booleans())
def test_a_message_is_given_up_only_when_it_was_sent_and_nothing_final_is_known_and_its_patience_has_run_out(
    state: State, channel: Channel, wait: Waits, expected: timedelta, age: timedelta, walked: bool
) -> None:
    seen = Seen(state, since=SENT, walked=walked)
    made = decide(seen, channel, wait, expected, SENT + age)
    silent = state in SWEPT and not is_final(state, channel)
    assert (made.what is What.GIVE_UP) == (silent and age >= wait.patience)


@given(st.sampled_from(State), channels, waits(), durations, durations, st.booleans(), st.booleans())
def test_the_next_look_is_later_than_now_and_never_too_late(
    state: State, channel: Channel, wait: Waits, expected: timedelta, age: timedelta, walked: bool, has_transid: bool
) -> None:
    now = SENT + age
    seen = Seen(state, since=SENT, heard_at=SENT, walked=walked, has_transid=has_transid)
    made = decide(seen, channel, wait, expected, now)
    if made.what is not What.LATER:
        assert made == Decision(made.what)
        return
    assert made.look_at is not None
    assert now < made.look_at <= now + max(wait.patience / 4, wait.usual)
    if is_final(state, channel):
        assert made.overdue_at is made.poll_at is None
        return
    assert made.overdue_at == SENT + min(expected, wait.patience)
    assert made.look_at <= made.overdue_at or now >= made.overdue_at
    assert made.poll_at == (max(now, SENT + wait.usual) if has_transid else None)


@pytest.mark.parametrize("channel", Channel, ids=lambda c: c.word)
def test_a_silent_message_is_looked_at_a_few_times_and_given_up_when_its_patience_ends(channel: Channel) -> None:
    wait, state = WAITS[channel], State.ACCEPTED
    if is_final(state, channel):
        return
    now, looks = SENT + wait.usual, 0
    while (made := decide(Seen(state, since=SENT), channel, wait, HOUR, now)).what is What.LATER:
        assert made.look_at is not None
        now, looks = made.look_at, looks + 1
    assert made.what is What.GIVE_UP
    assert now == SENT + wait.patience
    assert looks <= 30


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (Seen(None), What.LEAVE),
        (Seen(State.ACCEPTED, merged=True, since=SENT), What.LEAVE),
        (Seen(State.NO_RECEIPT, since=SENT), What.LEAVE),
        (Seen(State.REFUSED, since=SENT), What.LEAVE),
        (Seen(State.REFUSED, since=SENT, walked=False), What.LATER),
        (Seen(State.DELIVERED, since=SENT, heard_at=SENT, pushed=True), What.PUSHED),
        (Seen(State.DELIVERED, since=SENT, heard_at=SENT, pushed=True, walked=False), What.LATER),
        (Seen(State.DELIVERED, since=SENT, heard_at=SENT), What.MISSED),
        (Seen(State.DELIVERED, since=SENT, heard_at=SENT + HOUR - timedelta(seconds=239)), What.LATER),
        (Seen(State.DELIVERED, since=SENT, heard_at=SENT + HOUR - timedelta(seconds=240)), What.MISSED),
    ],
    ids=[
        "gone", "merged", "no receipt", "our own word", "our own word, not walked", "pushed", "pushed, not walked",
        "found", "found just now", "found four minutes ago",
    ],
)  # fmt: skip
def test_what_is_done_with_a_message_that_needs_no_more_waiting(seen: Seen, what: What) -> None:
    assert decide(seen, Channel.SMS, WAITS[Channel.SMS], HOUR, SENT + HOUR).what is what


def test_the_grace_of_a_push_is_never_longer_than_the_usual_time() -> None:
    assert grace(Waits(timedelta(seconds=5), HOUR)) == timedelta(seconds=5)
    assert grace(WAITS[Channel.SMS]) == timedelta(seconds=240)


def test_every_channel_has_its_times_and_they_fit() -> None:
    assert list(DEFAULTS) == [channel.word for channel in Channel]
    for wait in DEFAULTS.values():
        assert LEAST_USUAL <= wait.usual < wait.patience
    assert DEFAULTS["sms"].patience == timedelta(hours=72)
    assert longest_patience(DEFAULTS) == ("push", timedelta(days=28))
    assert DEFAULTS["email"].patience > timedelta(hours=14), "a bounce may come 14 hours after the delivery"


def test_the_documentation_has_the_times_of_every_channel() -> None:
    assert [row[:3] for row in table("states.md", "of channel")] == [
        [channel, duration_text(wait.usual), duration_text(wait.patience)] for channel, wait in DEFAULTS.items()
    ]


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "-3m", "0s", "15 m", "2w", "99999d", "1" * 20 + "s", "٣m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert read_duration(text) is None


@given(st.integers(1, 10_000_000))
def test_a_duration_is_read_back_as_it_is_written(seconds: int) -> None:
    assert read_duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


def chosen(**texts: str) -> tuple[dict[str, Waits], list[str]]:
    known = (Setting("USUAL_TIMES", ""), Setting("PATIENCES", ""))
    reader = Reader({f"RECEIVER_{name}": text for name, text in texts.items()}, known)
    return read_waits(reader), reader.problems


def test_what_the_operator_names_takes_the_place_of_the_default() -> None:
    read, problems = chosen(USUAL_TIMES="sms=5s, Push = 2h,", PATIENCES="sms=30s,voice=2d")
    assert problems == []
    changed = {
        "sms": Waits(timedelta(seconds=5), timedelta(seconds=30)),
        "push": Waits(timedelta(hours=2), timedelta(days=28)),
        "voice": Waits(timedelta(minutes=15), timedelta(days=2)),
    }
    assert read == {**DEFAULTS, **changed}


def test_everything_that_is_wrong_is_named_at_once() -> None:
    _, problems = chosen(USUAL_TIMES="fax=15m,sms=4s,push=soon,rt=1h,rt=2h", PATIENCES="voice=15m,=1h,mms")
    for number, said in enumerate(("'fax'", "'sms=4s'", "'push=soon'", "rt twice", "''", "'mms'", "voice is 15m")):
        assert said in problems[number], problems
    assert len(problems) == 7
