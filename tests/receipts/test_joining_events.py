"""What an event's flow sends are its children: one for each channel, flow node and destination."""

import json
from typing import Any
from uuid import UUID

from receiver.database.pool import Connection
from receiver.ids import NO_LEG, MessageId, SubmissionId, TenantId
from receiver.messages.lattice import Channel, State
from receiver.messages.store import connect as file_under
from receiver.messages.told import transid_digest
from receiver.platform.apis import Api
from receiver.platform.wire import Answer, AnswerItem, Outcome, Recipient
from receiver.sending import outbox, settle
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import body
from tests.receipts.test_joining import ONE, TWO, delivered, tell, with_connection
from tests.support import Database, now

CHILDREN = """
select s.channel, m.destination, s.state, m.id from message m join message_state s on s.id = m.id
 where m.parent_id = $1 and s.merged_into is null order by 1, 2, m.id
"""


async def issue_events(connection: Connection, tenant: TenantId, number: int) -> tuple[list[MessageId], SubmissionId]:
    """Events of ours in one submission: they have no recipient."""
    content = json.dumps({"events": [{"evtid": "1201"}] * number}).encode()
    asked = tuple(Asked("event", "1201", str(place), None) for place in range(number))
    request = Request(Api.EVENTS, Channel.EVENT, content, asked, None, None, None, 2, None, None)
    accepted = await outbox.accept(connection, tenant, request, now())
    ids = [identity for identity, _ in accepted.messages]
    return ids, await connection.fetchval("select submission_id from message where id = $1", ids[0])


async def answer(connection: Connection, tenant: TenantId, transid: str, event: MessageId) -> None:
    """What the platform's answer makes known: the event's transid."""
    async with connection.transaction():
        await file_under(connection, now(), tenant, [(transid_digest(transid), NO_LEG, event)])


async def children(connection: Connection, event: UUID) -> list[tuple[Any, ...]]:
    """Channel, destination and state of each."""
    return [(r["channel"], r["destination"], r["state"]) for r in await connection.fetch(CHILDREN, event)]


def sent(channel: str, status: str, destination: str, **more: Any) -> dict[str, Any]:
    return delivered(destination, deliveryChannel=channel, deliveryStatus=status, **more)


def test_children_over_two_channels_keep_two_states(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), submission = await issue_events(connection, tenant, 1)
        for info in (
            sent("SMS", "Submitted", ONE),
            sent("email", "Bounced", "ann@example.com"),
            sent("SMS", "Delivered", f"+{ONE}"),
            sent("SMS", "Failed", TWO),
        ):
            await tell(connection, tenant, body(info, "t-1", str(event)), submission)
        assert await children(connection, event) == [
            (Channel.SMS, ONE, State.DELIVERED),
            (Channel.SMS, TWO, State.FAILED),
            (Channel.EMAIL, "ann@example.com", State.BOUNCED),
        ]
        assert await connection.fetchval("select state from message_state where id = $1", event) == State.QUEUED

    with_connection(database, work)


def test_a_flow_that_sends_twice_to_one_number_has_two_children(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), _ = await issue_events(connection, tenant, 1)
        for subtid, status in (("5", "Delivered"), ("9", "Failed"), ("5", "Submitted")):
            await tell(connection, tenant, body(sent("SMS", status, ONE, subtid=subtid), "t-1", str(event)))
        states = [state for _, _, state in await children(connection, event)]
        assert sorted(states) == [State.FAILED, State.DELIVERED]

    with_connection(database, work)


def test_the_url_or_the_answers_transid_finds_the_event_without_our_id(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (alone,), submission = await issue_events(connection, tenant, 1)
        await tell(connection, tenant, body(sent("SMS", "Delivered", ONE), "t-1"), submission)
        assert await children(connection, alone) == [(Channel.SMS, ONE, State.DELIVERED)]
        (one, two), _ = await issue_events(connection, tenant, 2)
        await answer(connection, tenant, "t-2", one)
        await answer(connection, tenant, "t-3", two)
        await tell(connection, tenant, body(sent("SMS", "Failed", ONE, subtid="7"), "T-3_12"))
        assert await children(connection, one) == []
        assert await children(connection, two) == [(Channel.SMS, ONE, State.FAILED)]

    with_connection(database, work)


def test_what_was_observed_before_the_answer_is_the_events_child(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), _ = await issue_events(connection, tenant, 1)
        await tell(connection, tenant, body(sent("SMS", "Submitted", ONE, subtid="5"), "t-1"))
        observed = await connection.fetchval("select id from message where origin = 2")
        await answer(connection, tenant, "t-1", event)
        await tell(connection, tenant, body(sent("SMS", "Delivered", ONE, subtid="5"), "t-1", str(event)))
        assert await children(connection, event) == [(Channel.SMS, ONE, State.DELIVERED)]
        assert (await connection.fetch(CHILDREN, event))[0]["id"] == observed
        assert await connection.fetchval("select count(*) from message") == 2

    with_connection(database, work)


def test_an_observed_message_whose_child_is_born_already_becomes_its_tombstone(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), _ = await issue_events(connection, tenant, 1)
        await tell(connection, tenant, body(sent("SMS", "Delivered", ONE), "t-1"))
        observed = await connection.fetchval("select id from message where origin = 2")
        await tell(connection, tenant, body(sent("SMS", "Submitted", ONE), "other", str(event)))
        child = (await connection.fetch(CHILDREN, event))[0]["id"]
        await answer(connection, tenant, "t-1", event)
        assert await connection.fetchval("select merged_into from message_state where id = $1", observed) == child
        assert await children(connection, event) == [(Channel.SMS, ONE, State.DELIVERED)]

    with_connection(database, work)


def test_a_receipt_for_another_submissions_event_is_not_believed(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), _ = await issue_events(connection, tenant, 1)
        _, elsewhere = await issue_events(connection, tenant, 1)
        applied = await tell(connection, tenant, body(sent("SMS", "Delivered", ONE), "t-1", str(event)), elsewhere)
        assert applied.results == ["forged"]
        assert await connection.fetchval("select count(*) from message where origin = 2") == 0

    with_connection(database, work)


def test_two_events_under_one_transid_keep_their_own_children(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (one, two), _ = await issue_events(connection, tenant, 2)
        await tell(connection, tenant, body(sent("SMS", "Submitted", ONE), "t-1"))
        await tell(connection, tenant, body(sent("SMS", "Failed", ONE), "other", str(two)))
        async with connection.transaction():
            keys = [(transid_digest("t-1"), NO_LEG, event) for event in (one, two)]
            await file_under(connection, now(), tenant, keys)
        await tell(connection, tenant, body(sent("SMS", "Delivered", ONE), "t-1", str(one)))
        assert await children(connection, one) == [(Channel.SMS, ONE, State.DELIVERED)]
        assert await children(connection, two) == [(Channel.SMS, ONE, State.FAILED)]

    with_connection(database, work)


def test_an_answer_files_an_event_where_its_receipts_look(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (event,), _ = await issue_events(connection, tenant, 1)
        answered = Answer(Outcome.ACCEPTED, (AnswerItem("1002", "t-1", "Queued"),), description="Queued")
        keys = settle.keys_of(Channel.EVENT, [Recipient(event, "event", "")], answered, Api.EVENTS)
        async with connection.transaction():
            await file_under(connection, now(), tenant, keys)
        await tell(connection, tenant, body(sent("SMS", "Delivered", ONE, subtid="7"), "t-1"))
        assert await children(connection, event) == [(Channel.SMS, ONE, State.DELIVERED)]

    with_connection(database, work)
