"""Why a message is in its state: every receipt in the order of its arrival, and what the fold made of it.

The steps are the fold of `messages/lattice.py`, one receipt at a time: the last one's `after` is the stored state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from receiver.messages.lattice import (
    FAMILIES,
    NEGATIVE,
    POSITIVE,
    RANK,
    Channel,
    Fact,
    Fold,
    State,
    clash,
    fold,
    is_final,
)
from receiver.messages.told import Feed
from receiver.queries import explain_words as words
from receiver.queries.explain_expected import Expected, expected_of
from receiver.queries.legs import Stored, stored
from receiver.queries.one_message import MOST
from receiver.queries.views import ORIGINS, Reason, reason_of
from receiver.waits import Waits


class Said(msgspec.Struct):
    """What a receipt said, in its own words."""

    status: str
    code: str | None
    description: str | None
    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    transid: str | None


class Rule(msgspec.Struct):
    """The rule that it met: what its status proves on its channel, and which state that is."""

    word: str
    table: str
    fact: str
    state: str | None
    rank: int | None
    text: str


class Joined(msgspec.Struct):
    """How its message was found."""

    how: str
    text: str


class Step(msgspec.Struct):
    """One receipt, answer or own word: what it said, the rule, and what it changed, or why it did not."""

    received_at: datetime
    told_at: datetime | None
    told_late_seconds: float | None
    feed: str
    feed_text: str
    said: Said
    rule: Rule
    joined: Joined
    elsewhere: bool
    copied: bool
    before: str | None
    after: str
    changed: bool
    why: str
    text: str
    reason: str | None
    reason_text: str | None
    conflict: bool


class Contradiction(msgspec.Struct):
    """A leg that bears a positive fact and a negative one which its channel does not call normal together."""

    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    positive: str
    negative: str
    text: str


class Explanation(msgspec.Struct):
    """Why a message is in its state, and what is still expected of it."""

    id: str
    merged_from: str | None
    state: str
    final: bool
    channel: str
    origin: str
    reason: Reason | None
    conflict: bool
    contradictions: list[Contradiction]
    expected: Expected
    steps: list[Step]
    steps_cut: bool
    text: str


@dataclass
class Unfolding:
    """The belief so far: `add` takes one receipt more, and none is taken twice."""

    belief: Fold = field(default_factory=Fold)
    legs: dict[tuple[object, ...], tuple[Fact, Fact, asyncpg.Record]] = field(default_factory=dict)

    def add(self, told: Stored, row: asyncpg.Record) -> None:
        """Joins what one receipt proves to what all before it proved. Times are left out: no state hangs on them."""
        one, so_far = fold((told,)), self.belief
        so_far.state = max(so_far.state, one.state)
        so_far.facts |= one.facts
        so_far.clicks += one.clicks
        so_far.complaints += one.complaints
        if one.reason_key is not None:
            so_far.reason_key = max(so_far.reason_key or b"", one.reason_key)
        if told.leg is not None:
            facts, against, first = self.legs.get(told.leg, (Fact.NONE, Fact.NONE, row))
            facts, against = facts | told.fact, against | clash(told.channel, told.fact)
            self.legs[told.leg] = (facts, against, first)
            so_far.conflict = so_far.conflict or bool(facts & against)


def unfold(rows: Sequence[asyncpg.Record], observed: bool) -> tuple[list[Step], Unfolding]:
    """The steps that these rows of `receipt` make, in their order. Before its first one an observed message was not."""
    unfolding, steps = Unfolding(), list[Step]()
    for row in rows:
        told, before = stored(row), unfolding.belief
        state, facts, reason, conflict = before.state, before.facts, before.reason_key, before.conflict
        unfolding.add(told, row)
        why = _why(told.fact, state, facts)
        outcome = words.reason_outcome(reason, told.reason_key)
        after = unfolding.belief.state
        steps.append(
            Step(
                received_at=row["received_at"],
                told_at=row["told_at"],
                told_late_seconds=_late(row),
                feed=Feed(row["feed"]).word,
                feed_text=words.FEEDS[Feed(row["feed"])],
                said=_said(row),
                rule=_rule(row, told.fact),
                joined=Joined(*words.joined(row["joined"], Feed(row["feed"]))),
                elsewhere=row["elsewhere"],
                copied=row["copied"],
                before=None if observed and not steps else state.word,
                after=after.word,
                changed=after != state,
                why=why,
                text=words.why(why, told.fact, state, row["elsewhere"], row["copied"]),
                reason=outcome and outcome[0],
                reason_text=outcome and outcome[1],
                conflict=unfolding.belief.conflict and not conflict,
            )
        )
    return steps, unfolding


def contradictions(unfolding: Unfolding) -> list[Contradiction]:
    """Which leg bears which facts that contradict each other."""
    found = []
    for facts, against, row in unfolding.legs.values():
        if not facts & against:
            continue
        channel = Channel(row["channel"])
        for positive in facts & POSITIVE:
            for negative in facts & NEGATIVE:
                if (positive, negative) not in FAMILIES[channel].normal:
                    pair = (RANK[positive].word, RANK[negative].word)
                    leg = (channel.word, row["destination"], row["subtid"], row["device"])
                    found.append(Contradiction(*leg, *pair, words.contradiction(channel, positive, negative)))
    return found


def conclusion(state: State, rows: int, cut: bool, steps: Sequence[Step]) -> str:
    """In one sentence where the state comes from."""
    if cut:
        return f"It is {state.word}, by all that was told of it; the first {MOST} receipts are explained here."
    if not rows:
        return f"It is {state.word}: nothing has been told of it yet."
    last = max((n for n, step in enumerate(steps) if step.changed), default=None)
    if last is None:
        return f"It is {state.word}: nothing that was told of it has a rank."
    return f"It is {state.word} by step {last + 1} of {rows}: no other proves a higher state."


def explain(
    row: asyncpg.Record,
    told: Sequence[asyncpg.Record],
    cut: bool,
    held: asyncpg.Record,
    waits: Waits,
    now: datetime,
    asked: UUID,
) -> Explanation:
    """The explanation of the message of `row`, of which `told` was told, in the order of arrival."""
    state, channel = State(row["state"]), Channel(row["channel"])
    steps, unfolding = unfold(told, observed=row["origin"] == 2)
    return Explanation(
        id=str(row["id"]),
        merged_from=str(asked) if asked != row["id"] else None,
        state=state.word,
        final=is_final(state, channel),
        channel=channel.word,
        origin=ORIGINS[row["origin"]],
        reason=reason_of(row, state),
        conflict=row["conflict"],
        contradictions=contradictions(unfolding),
        expected=expected_of(row, held, waits, now),
        steps=steps,
        steps_cut=cut,
        text=conclusion(state, len(told), cut, steps),
    )


def _why(fact: Fact, state: State, facts: Fact) -> str:
    """Why a receipt changed the state, or did not."""
    if fact is Fact.UNKNOWN:
        return "unknown_status"
    if RANK[fact] is State.QUEUED:
        return "no_rank"
    if RANK[fact] > state:
        return "raised"
    return "repeated" if fact & facts else "lower"


def _late(row: asyncpg.Record) -> float | None:
    """How many seconds after its own time we heard of it, where it told one."""
    if row["told_at"] is None:
        return None
    return round(float((row["received_at"] - row["told_at"]).total_seconds()), 3)


def _said(row: asyncpg.Record) -> Said:
    return Said(
        row["status"],
        row["code"],
        row["description"],
        Channel(row["channel"]).word,
        row["destination"],
        row["subtid"],
        row["device"],
        row["transid"],
    )


def _rule(row: asyncpg.Record, fact: Fact) -> Rule:
    channel, feed = Channel(row["channel"]), Feed(row["feed"])
    ranked = RANK[fact] is not State.QUEUED
    word, table, text = words.rule(channel, feed, row["status"], row["code"], fact)
    state = RANK[fact].word if ranked else None
    return Rule(word, table, (fact.name or "").lower(), state, int(RANK[fact]) if ranked else None, text)
