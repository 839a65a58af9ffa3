"""A re-read against the plain fold: whatever an older version stored, what the present tables prove comes out."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.database.pool import Connection, connect
from receiver.ids import Digest, MessageId, SubmissionId, TenantId, new_id
from receiver.messages.lattice import Channel, Fact
from receiver.messages.store import apply_known
from receiver.messages.told import Feed, Told, told_by_us
from receiver.platform.codes import answer_meaning
from receiver.receipts.apply import apply
from receiver.upkeep.reread_meaning import Meaning
from tests.receipts.tellings import CODES, NUMBER, STATUSES, assert_books_balance, belief, body, life, told_of, truth
from tests.receipts.test_apply_properties import groups_of, issue
from tests.support import Database, now
from tests.upkeep.rereading import OlderTables, reread, scope, would, written

EXAMPLES = 80
_numbers = itertools.count(1)
_WORDS = sorted({word for words in STATUSES.values() for word in words})
_TAKEN_FOR = (Fact.UNKNOWN, Fact.NOTED, Fact.SUBMITTED, Fact.DELIVERED, Fact.FAILED, Fact.UNDELIVERED, Fact.CLICKED)
STORED = (
    f"select {', '.join(Meaning._fields)}, received_at, raw from receipt where message_id = $1 and fingerprint = $2"
)


@st.composite
def older_tables(draw: st.DrawFn) -> OlderTables:
    return OlderTables(
        draw(st.dictionaries(st.sampled_from(_WORDS), st.sampled_from(_TAKEN_FOR), max_size=6)),
        draw(st.dictionaries(st.sampled_from([code for code in CODES if code]), st.integers(0, 6), max_size=3)),
        draw(st.dictionaries(st.sampled_from(["sms", "email", "rcs"]), st.just(Channel.OTHER), max_size=2)),
        draw(st.booleans()),
    )


def answer(tenant: TenantId, message: UUID, submission: SubmissionId, code: str, code_class: int) -> Told:
    """What the platform answered at once, kept with the class that the code had then."""
    return told_by_us(
        tenant=tenant, submission_id=submission, message_id=MessageId(message), channel=Channel.SMS,
        destination=NUMBER, fact=Fact.ACCEPTED if code == "1001" else Fact.REFUSED, fingerprint=new_id().bytes,
        at=now() - timedelta(hours=1), status="queued", code=code, code_class=code_class, description=None,
        transid=None, raw=b"{}",
    )  # fmt: skip


@given(data=st.data())
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def _example(runner: asyncio.Runner, connection: Connection, tenant: TenantId, data: st.DataObject) -> None:
    infos: list[dict[str, Any]] = data.draw(life())
    groups = data.draw(groups_of(len(infos)))
    older = data.draw(older_tables())
    answered = data.draw(st.sampled_from([None, None, ("1001", 0), ("7004", 2), ("7004", 0), ("7004", 3)]))
    runner.run(_check(connection, tenant, infos, groups, older, answered))


async def _check(
    connection: Connection,
    tenant: TenantId,
    infos: list[dict[str, Any]],
    groups: list[list[int]],
    older: OlderTables,
    answered: tuple[str, int] | None,
) -> None:
    transid, since = f"t-{next(_numbers)}", now()
    identity, submission = await issue(connection, tenant) if answered else (None, None)
    told = [told_of(body(info, transid, str(identity or "")), tenant) for info in infos]
    for group in groups:
        await apply(connection, new_id(), now(), Feed.PUSH, [older.read(told[n]) for n in group])
    said: list[Told] = []
    if answered is not None and submission is not None and identity is not None:
        then = answer(tenant, identity, submission, *answered)
        await apply_known(connection, now(), Feed.ANSWER, [MessageId(identity)], [then])
        meaning = answer_meaning("messaging", answered[0])
        answered_now = OlderTables(classes={answered[0]: int(meaning.failure_class) if meaning else 0}).read(then)
        said = [answered_now._replace(destination_key=Digest(b"of no leg"))]  # an answer contradicts no receipt
    if identity is None:
        identity = await connection.fetchval("select id from message_state where transid = $1", transid)
    assert identity is not None

    of = scope(tenant, since=since)
    before = await belief(connection, identity)
    present = truth([*told, *said])[0:2]
    expected = await would(connection, of)
    assert await belief(connection, identity) == before, "looking changes nothing"
    done = await reread(connection, of)
    assert done.done
    assert done.figures == expected.figures, "it does what it said"
    assert (await belief(connection, identity))[0:2] == present
    assert done.figures.changed == (before[0:2] != present)
    for receipt in told:
        row = await connection.fetchrow(STORED, identity, receipt.fingerprint)
        assert row is not None
        assert dict(row) == {name: getattr(receipt, name) for name in (*Meaning._fields, "received_at", "raw")}

    still = await written(connection)
    again = await reread(connection, of)
    assert (again.figures.changed, again.figures.rewritten, again.figures.messages) == (0, 0, 1)
    assert await written(connection) == still, "what is right is not written"


def test_whatever_an_older_version_stored_the_present_fold_comes_out(database: Database) -> None:
    tenant = database.tenant()
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database.dsn, "tests"))
        _example(runner, connection, tenant)
        runner.run(assert_books_balance(connection))
        runner.run(connection.close())
