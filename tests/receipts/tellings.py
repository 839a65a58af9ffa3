"""Receipts as a platform could tell them, and what the database believes of them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from hypothesis import strategies as st

from receiver.database.pool import Connection
from receiver.ids import SubmissionId, TenantId
from receiver.messages.lattice import LAST_TIMES, TIMES, Fact, Fold, State, fold
from receiver.messages.told import Told
from receiver.receipts.receipt import Source, read

NUMBER = "447700900123"
SPELLINGS = (NUMBER, f"+{NUMBER}", f"00{NUMBER}", f"tel:+{NUMBER}")
RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)

STATUSES = {
    "SMS": ("Submitted", "submit", "Delivered", "Undelivered", "Un-Delivered", "Failed", "Clicked", "Teleported"),
    "voice": ("OFFERED", "ACCEPTED", "ANSWERED", "DROPPED", "REJECTED", "RELEASED", "Trombone Connect", "FAILED"),
    "email": ("Submitted", "Delivered", "Bounce", "Bounced", "Complaint", "Not verified", "Invalid", "Read", "Clicked"),
    "push": ("Submitted", "Delivered", "Read", "Failed"),
    "whatsapp": ("Submitted", "Delivered", "Read", "Failed"),
    "rcs": ("Submitted", "Delivered", "Read", "Failed"),
    "applebusinesschat": ("Submitted", "Failed"),
    "rt": ("Submitted", "Delivered", "Read", "Failed", "Clicked"),
}
CODES = ("", "7500", "7101", "7207", "7208", "7401", "9002", "4242", "7520")


@st.composite
def telling(draw: st.DrawFn, channel: str) -> dict[str, Any]:
    """One deliveryInfo without its ids."""
    info: dict[str, Any] = {
        "deliveryChannel": draw(st.sampled_from([channel, channel, channel, "SMS"])),
        "deliveryStatus": draw(st.sampled_from(STATUSES[channel])),
        "destination": draw(st.sampled_from(SPELLINGS)),
        "code": draw(st.sampled_from(CODES)),
    }
    minutes = draw(st.one_of(st.none(), st.integers(0, 300)))
    if minutes is not None:
        info["timeStamp"] = (RECEIVED + timedelta(minutes=minutes)).isoformat()
    if channel == "push":
        info["deviceid"] = draw(st.sampled_from(["", "a", "b"]))
    return info


@st.composite
def life(draw: st.DrawFn, most: int = 12) -> list[dict[str, Any]]:
    """Everything that is told of one message."""
    channel = draw(st.sampled_from(sorted(STATUSES)))
    return draw(st.lists(telling(channel), min_size=1, max_size=most))


def body(info: dict[str, Any], transid: str, correlationid: str = "") -> bytes:
    """A notification as it comes to the door."""
    outer = {"deliveryInfo": info, "transid": transid, "correlationid": correlationid, "callbackData": "", "subtid": ""}
    return json.dumps({"deliveryInfoNotification": outer}).encode()


def told_of(raw: bytes, tenant: TenantId, submission: SubmissionId | None = None) -> Told:
    """The one receipt of a body. Heard at a time that depends on the body alone, as in a world where it came once."""
    source = Source(tenant, submission, RECEIVED + timedelta(seconds=sum(raw) % 3600))
    reading = read(raw, source)
    assert len(reading.receipts) == 1, reading
    return reading.receipts[0]


BELIEF = """
select s.*, (select count(*) from receipt r where r.message_id = s.id and r.feed <= 4) as receipts
  from message_state s where s.id = $1
"""


Belief = tuple[Fold, int | None, int]


async def belief(connection: Connection, message: UUID) -> Belief:
    """What the database believes of a message, the class of its reason, and how many receipts it keeps."""
    row = await connection.fetchrow(BELIEF, message)
    assert row is not None
    return fold_of(row), row["reason_class"], row["receipts"]


def truth(told: Sequence[Told]) -> Belief:
    """What it must believe."""
    belief = fold(told)
    classes = {t.reason_key: t.reason_class for t in told}
    return belief, classes.get(belief.reason_key), len({t.fingerprint for t in told})


def fold_of(row: asyncpg.Record) -> Fold:
    """The columns of `message_state` as the plain fold names them."""
    return Fold(
        state=State(row["state"]),
        facts=Fact(row["facts"]),
        reason_key=row["reason_key"],
        conflict=row["conflict"],
        clicks=row["clicks"],
        complaints=row["complaints"],
        times={name: row[name] for name in TIMES if row[name] is not None},
        last_times={name: row[name] for name in LAST_TIMES if row[name] is not None},
    )


LOG_SUMS = """
select coalesce(t.state, l.state) as state, coalesce(t.n, 0) as truth, coalesce(l.n, 0) as told
  from (select state, count(*) as n from message_state where merged_into is null group by 1) t
  full join (select state, sum(k) as n
               from (select new_state as state, 1 as k from change union all select old_state, -1 from change) c
              where state is not null group by 1) l on l.state = t.state
 where coalesce(t.n, 0) <> coalesce(l.n, 0)
"""
LOG_IS_A_CHAIN = """
select count(*) from (
  select old_state, version, lag(new_state) over w as before, lag(version) over w as earlier, row_number() over w as nth
    from change window w as (partition by message_id order by seq)) c
 where nth > 1 and (old_state is distinct from before or version <> earlier + 1) or nth = 1 and old_state is not null
"""
LEDGER = """
select (select coalesce(sum(applied + late) filter (where feed <= 4), 0) from intake)
     + (select coalesce(sum(counted), 0) from dropped_week where dropped_at is not null)
     - (select count(*) from receipt where feed <= 4 and not copied)
     - (select coalesce(sum(receipts - copied), 0) from dropped_week where dropped_at is not null) as difference
"""


async def assert_books_balance(connection: Connection) -> None:
    """The change log sums to a count over the messages, is a chain for each, and the ledger counts the receipts."""
    assert [tuple(row) for row in await connection.fetch(LOG_SUMS)] == []
    assert await connection.fetchval(LOG_IS_A_CHAIN) == 0
    assert await connection.fetchval(LEDGER) == 0
