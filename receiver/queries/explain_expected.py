"""What is still expected of a message and by when: from its channel's patience, and from what waits in the tables."""

from datetime import datetime, timedelta

import asyncpg
import msgspec

from receiver.ids import born_at
from receiver.messages.lattice import CEILING, FAMILIES, NEGATIVE_STATES, POSITIVE_STATES, Channel, State, is_final
from receiver.messages.patience import SWEPT, Seen, decide
from receiver.waits import Waits, duration_text


class Expected(msgspec.Struct, kw_only=True):
    """What is still expected and by when; null where it does not apply. `nothing`: nothing is waited for."""

    nothing: bool
    text: str
    sent_next_at: datetime | None = None
    """When it goes out, or again."""
    usually_by: datetime | None = None
    """After it the final word is looked for."""
    overdue_at: datetime | None = None
    asked_next_at: datetime | None = None
    """From when the platform may be asked."""
    asked: int = 0
    """How often it was."""
    given_up_at: datetime | None = None
    """When it becomes no_receipt."""


def expected_of(row: asyncpg.Record, held: asyncpg.Record, waits: Waits, now: datetime) -> Expected:
    """What is still expected. `row` is of `one_message.ONE`, `held` of `one_message.HELD`."""
    state, channel = State(row["state"]), Channel(row["channel"])
    if is_final(state, channel):
        return Expected(nothing=True, text=_final(state, channel))
    if state is State.NO_RECEIPT:
        text = "Nothing is waited for any more. A final receipt that comes all the same corrects it."
        return Expected(nothing=True, text=text)
    if state is State.QUEUED and held["due_at"] is not None:
        return _unsent(held)
    return _open(row, held, state, channel, waits, now)


def since_of(row: asyncpg.Record) -> datetime:
    """When it was sent, as the sweeper counts: not before its birth, nor after the last news of it."""
    born = born_at(row["id"])
    began: datetime = row["accepted_at"] or row["submitted_at"] or born
    news: datetime = row["changed_at"]
    return max(born, min(began, news))


def _final(state: State, channel: Channel) -> str:
    if state in NEGATIVE_STATES:
        return f"Nothing: {state.word} is final. Should better news come all the same, they count."
    if state in POSITIVE_STATES and state < FAMILIES[channel].ceiling:
        best = FAMILIES[channel].ceiling.word
        return f"Nothing has to come: {state.word} is final. {best.capitalize()} may still raise it."
    if channel in CEILING and state not in POSITIVE_STATES:
        return f"Nothing: {CEILING[channel].word} is the ceiling of {channel.word}, the best that it ever tells."
    return f"Nothing: {state.word} is the best that {channel.word} tells."


def _unsent(held: asyncpg.Record) -> Expected:
    if held["stopped_at"] is not None:
        text = "It waits to be sent: the platform refuses the credentials; one message a minute tries."
    elif held["lease_until"] is not None:
        text = "It is being sent now."
    elif held["paused_until"] is not None:
        text = "It waits to be sent: the platform asks to slow down."
    else:
        text = "It waits to be sent."
    due = max(at for at in (held["due_at"], held["paused_until"]) if at is not None)
    return Expected(nothing=False, text=text, sent_next_at=due)


def _open(
    row: asyncpg.Record, held: asyncpg.Record, state: State, channel: Channel, waits: Waits, now: datetime
) -> Expected:
    since = since_of(row)
    learned = held["usual_seconds"]
    expected = min(timedelta(seconds=learned), waits.patience) if learned is not None else waits.usual
    decision = decide(Seen(state, since=since, has_transid=row["transid"] is not None), channel, waits, expected, now)
    is_awaited = row["overdue_at"] is not None  # then what was decided there counts
    if state is State.UNCERTAIN:
        text = "The call was made and its answer lost: a receipt may still say what became of it."
    elif state is State.QUEUED:
        text = "Nothing that has a rank was told of it yet."
    else:
        text = f"A final word: it usually comes within {duration_text(waits.usual)} of the send."
    given_up_at = since + waits.patience if state in SWEPT else None
    if given_up_at is not None:
        text += f" Without one it becomes no_receipt after {duration_text(waits.patience)}."
    return Expected(
        nothing=False,
        text=text,
        sent_next_at=held["resend_at"],
        usually_by=since + waits.usual,
        overdue_at=row["overdue_at"] if is_awaited else decision.overdue_at or since + min(expected, waits.patience),
        asked_next_at=row["poll_at"] if is_awaited else decision.poll_at,
        asked=row["polls"] or 0,
        given_up_at=given_up_at,
    )
