"""The platform is asked about what it never told, and what it answers is a receipt like any other."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from receiver import metrics
from receiver.ids import MessageId
from receiver.messages.lattice import Channel, State
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.sending.outbox import accept
from receiver.sending.request import Asked as Asks
from receiver.sending.request import Request
from tests.support import Database, cloned, eventually
from tests.upkeep.asking import PATIENCE, USUAL, Asked, Scene, asked_platform, emptied, entry, found, play
from tests.upkeep.people import body, send, tell

NUMBER, OTHER = "447700900001", "447700900002"


@pytest.fixture(scope="module")
def clone(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "reconciler") as made:
        yield made


@pytest.fixture
def database(clone: Database) -> Database:
    """One for all tests of this file, empty for each."""
    return emptied(clone)


@pytest.fixture
def platform() -> Iterator[Asked]:
    with asked_platform() as made:
        yield made


def test_what_the_platform_answers_is_a_receipt_of_the_feed_poll(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(
        entry(NUMBER, "failed", transid, error_code="7207", last_updated="Mon, 16 Aug 2010 03:45:03 UTC")
    )

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        labels = {"channel": "sms", "feed": "poll", "state": "undelivered", "tenant": "default"}
        before = metrics.REGISTRY.get_sample_value("receiver_messages_total", labels) or 0
        await scene.rounds(scene.reconciler())
        assert metrics.REGISTRY.get_sample_value("receiver_messages_total", labels) == before + 1
        assert platform.questions == ["t-1"]
        state = await scene.state(message)
        assert (state["state"], state["failed_at"].year) == (State.UNDELIVERED, 2010)
        [receipt] = await scene.polled(message)
        assert (receipt["status"], receipt["code"], receipt["destination"]) == ("failed", "7207", NUMBER)
        assert b"a secret text" not in receipt["raw"]
        assert await scene.ledger() == (1, 1, 0)
        [change] = await scene.connection.fetch("select feed, new_state from change where message_id = $1 and feed = 3",
                                                message)  # fmt: skip
        assert change["new_state"] == State.UNDELIVERED

    play(database, work, platform)


def test_what_is_final_is_looked_at_at_once_and_asked_no_more(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry(NUMBER, "delivered", transid))

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        await scene.rounds(scene.reconciler())
        row = await scene.row(message)
        assert (row["poll_at"], row["look_at"]) == (None, scene.clock.at - timedelta(seconds=1))
        await scene.rounds(scene.reconciler(), 3, seconds=86_400)
        assert len(platform.questions) == 1

    play(database, work, platform)


def test_what_is_on_its_way_is_asked_about_again_after_growing_gaps_until_the_patience_ends(
    database: Database, platform: Asked
) -> None:
    platform.reply = lambda transid: found(entry(NUMBER, "sent", transid))

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        born = scene.clock.at
        await scene.awaits(message, seconds=USUAL.total_seconds())
        reconciler, ages = scene.reconciler(), []
        while (due := (await scene.row(message))["poll_at"]) is not None:
            ages.append((due - born) / USUAL)
            scene.clock.move((due - scene.clock.at).total_seconds() - 1)
            await scene.rounds(reconciler)
            assert len(platform.questions) == len(ages) - 1
            await scene.rounds(reconciler, seconds=0)
            assert len(platform.questions) == len(ages)
        assert ages == pytest.approx([1, 4, 13, 40, 121, 0.95 * PATIENCE / USUAL])
        assert (await scene.state(message))["state"] == State.SUBMITTED
        assert await scene.ledger() == (6, 1, 5)

    play(database, work, platform)


def test_a_shared_transid_is_asked_for_once_for_all_of_its_messages(database: Database, platform: Asked) -> None:
    numbers = [f"4477009{n:05}" for n in range(300)]
    platform.reply = lambda transid: found(*(entry(f"+{n}", "delivered", transid) for n in numbers), entry("49151"))

    async def work(scene: Scene) -> None:
        messages = await scene.queued("shared", *numbers)
        await scene.awaits(*messages[:200])
        await scene.awaits(*messages[200:290], seconds=3_600)
        reconciler = scene.reconciler()
        await scene.rounds(reconciler, 3)
        assert platform.questions == ["shared"]
        delivered = await scene.connection.fetchval("select count(*) from message_state where state = 60")
        assert delivered == 290  # the last ten are not waited for
        assert await scene.ledger() == (290, 290, 0)
        assert await scene.connection.fetchval("select count(*) from awaited where poll_at is not null") == 0
        assert await scene.connection.fetchval("select count(*) from message where origin = 2") == 0

    play(database, work, platform)


def test_a_customer_who_resolved_to_two_numbers_gets_both_answers_and_nobody_is_born(
    database: Database, platform: Asked
) -> None:
    platform.reply = lambda transid: found(entry(NUMBER, "failed", transid), entry(OTHER, "delivered", transid))

    async def work(scene: Scene) -> None:
        messages = await scene.queued(["t-1_0", "t-1_1"], "customer-1", "customer-2")
        await scene.awaits(*messages)
        await scene.rounds(scene.reconciler(), 2)
        assert sorted(platform.questions) == ["t-1_0", "t-1_1"]
        for message in messages:
            state = await scene.state(message)
            assert (state["state"], state["conflict"]) == (State.DELIVERED, False)
            assert len(await scene.polled(message)) == 2
        assert await scene.connection.fetchval("select count(*) from message") == 2

    play(database, work, platform)


def test_customers_under_one_transid_are_told_apart_by_what_was_told_of_them_before(
    database: Database, platform: Asked
) -> None:
    platform.reply = lambda transid: found(entry(OTHER, "delivered", transid), entry(NUMBER, "delivered", transid))

    async def work(scene: Scene) -> None:
        messages = await scene.queued("t-1", "customer-1", "customer-2")
        await tell(scene.connection, scene.tenant, body(OTHER, "t-1", "Submitted", str(messages[1])))
        await scene.awaits(*messages)
        await scene.rounds(scene.reconciler())
        assert [(await scene.state(m))["state"] for m in messages] == [State.ACCEPTED, State.DELIVERED]
        assert await scene.ledger() == (1, 1, 0)

    play(database, work, platform)


def test_an_observed_message_is_asked_about_whatever_node_told_of_it(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry(f"+{NUMBER}", "delivered", transid))

    async def work(scene: Scene) -> None:
        await tell(scene.connection, scene.tenant, body(NUMBER, "t-1", "Submitted", subtid="node 7"))
        await tell(scene.connection, scene.tenant, body(OTHER, "t-2", "Submitted"))
        ids = {row["transid"]: MessageId(row["id"]) for row in
               await scene.connection.fetch("select id, transid from message_state")}  # fmt: skip
        await scene.awaits(*ids.values())
        await scene.rounds(scene.reconciler(), 2)
        assert (await scene.state(ids["t-1"]))["state"] == State.DELIVERED
        assert (await scene.state(ids["t-2"]))["state"] == State.SUBMITTED  # the answer was about another recipient
        assert await scene.connection.fetchval("select count(*) from message") == 2

    play(database, work, platform)


def test_a_child_of_an_event_is_asked_about_by_the_event_s_transid_and_the_event_never(
    database: Database, platform: Asked
) -> None:
    platform.reply = lambda transid: found(
        entry(NUMBER, "answered", transid, channel="voice"), entry(NUMBER, "delivered", transid),
        entry(OTHER, "delivered", transid),
    )  # fmt: skip

    async def work(scene: Scene) -> None:
        asked = (Asks("event", "e1", "0", None),)
        event = Request(Api.EVENTS, Channel.EVENT, b"{}", asked, None, None, None, 2, None, None)
        [(parent, _)] = (await accept(scene.connection, scene.tenant, event, scene.clock.at)).messages
        await tell(scene.connection, scene.tenant, body(NUMBER, "e-1", "Submitted", str(parent), subtid="node 7"))
        [child] = [MessageId(row["id"]) for row in
                   await scene.connection.fetch("select id from message where parent_id = $1", parent)]  # fmt: skip
        await scene.awaits(child, parent)
        await scene.rounds(scene.reconciler(), 3)
        assert platform.questions == ["e-1"]
        assert (await scene.state(child))["state"] == State.DELIVERED
        assert [receipt["status"] for receipt in await scene.polled(child)] == ["delivered"]
        assert (await scene.row(parent))["poll_at"] is None
        assert await scene.connection.fetchval("select count(*) from message") == 2

    play(database, work, platform)


def test_what_has_become_final_or_is_gone_or_has_no_transid_costs_no_question(
    database: Database, platform: Asked
) -> None:
    async def work(scene: Scene) -> None:
        final, early = await scene.queued(["t-1", "t-2"], NUMBER, OTHER)
        [unknown], _ = await send(scene.connection, scene.tenant, NUMBER)
        await scene.awaits(final, unknown)
        await scene.awaits(early, seconds=60)
        await tell(scene.connection, scene.tenant, body(NUMBER, "t-1", correlationid=str(final)))
        await scene.connection.execute(
            "insert into awaited (message_id, tenant, channel, look_at, poll_at)"
            " values ('01900000-0000-7000-8000-000000000000', $1, 1, 'infinity', $2)",
            scene.tenant, scene.clock.at,
        )  # fmt: skip
        await scene.rounds(scene.reconciler())
        assert platform.questions == []
        assert await scene.connection.fetchval("select count(*) from awaited where poll_at is not null") == 1
        assert (await scene.row(unknown))["polls"] == 0

    play(database, work, platform)


def test_an_unknown_transid_is_asked_for_again_later(database: Database, platform: Asked) -> None:
    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        await scene.rounds(scene.reconciler(), seconds=0)
        row = await scene.row(message)
        assert (row["polls"], row["poll_at"] - scene.clock.at) == (1, 3 * USUAL)
        assert await scene.ledger() == (0, 0, 0)

    play(database, work, platform)


def test_an_answer_does_not_go_on_to_a_client(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry(NUMBER, "delivered", transid))

    async def work(scene: Scene) -> None:
        await scene.connection.execute("update tenant set forwards = true, forward_to = 'https://client.example/'")
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        await scene.rounds(scene.reconciler())
        assert (await scene.state(message))["state"] == State.DELIVERED
        assert await scene.connection.fetchval("select count(*) from forward") == 0
        await tell(scene.connection, scene.tenant, body(NUMBER, "t-1", correlationid=str(message)))
        assert await scene.connection.fetchval("select count(*) from forward") == 1

    play(database, work, platform)


def test_a_late_failed_raises_what_polling_found_and_a_late_delivered_outweighs_it(
    database: Database, platform: Asked
) -> None:
    platform.reply = lambda transid: found(entry("", "failed", transid))

    async def work(scene: Scene) -> None:
        messages = await scene.queued(["t-1", "t-2"], NUMBER, OTHER)
        await scene.awaits(*messages)
        await scene.rounds(scene.reconciler(), 2)
        assert [(await scene.state(m))["state"] for m in messages] == [State.UNDELIVERED] * 2
        for message, number, status in zip(messages, (NUMBER, OTHER), ("Failed", "Delivered"), strict=True):
            await tell(scene.connection, scene.tenant, body(number, "t", status, correlationid=str(message)))
        assert [(await scene.state(m))["state"] for m in messages] == [State.FAILED, State.DELIVERED]

    play(database, work, platform)


def test_two_at_once_ask_nothing_twice(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry("", "sent", transid))

    async def work(scene: Scene) -> None:
        numbers = [f"4477009{n:05}" for n in range(30)]
        shared = await scene.queued("shared", *numbers[:10])
        own = await scene.queued([f"t-{n}" for n in range(20)], *numbers[10:])
        await scene.awaits(*shared, *own)
        both = scene.reconciler(), scene.reconciler()
        for _ in range(16):
            await asyncio.gather(*(one.once() for one in both))
            await asyncio.gather(*(one.idle() for one in both))
            scene.clock.move(1)
        assert sorted(platform.questions) == sorted(["shared", *(f"t-{n}" for n in range(20))])

    play(database, work, platform)


def test_who_dies_between_claim_and_answer_only_delays(database: Database, platform: Asked) -> None:
    platform.reply = lambda _transid: None

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        dying = scene.reconciler()
        await dying.once()
        await asyncio.to_thread(eventually, lambda: platform.questions)
        for task in asyncio.all_tasks():
            if task.get_name() == "poll":
                task.cancel()
        await dying.idle()
        platform.reply = lambda transid: found(entry(NUMBER, "delivered", transid))
        other = scene.reconciler()
        await scene.rounds(other, 4, seconds=60)
        assert len(platform.questions) == 1
        await scene.rounds(other, 2, seconds=60)
        assert len(platform.questions) == 2
        assert (await scene.state(message))["state"] == State.DELIVERED

    play(database, work, platform)


def test_a_message_that_is_merged_or_goes_while_the_platform_thinks_leaves_the_others_their_answer(
    database: Database, platform: Asked
) -> None:
    numbers = [NUMBER, OTHER, "447700900003"]

    async def work(scene: Scene) -> None:
        messages = await scene.queued("shared", *numbers)
        await scene.awaits(*messages)
        loop = asyncio.get_running_loop()

        async def meanwhile() -> None:
            await scene.connection.execute("update message_state set merged_into = id where id = $1", messages[0])
            await scene.connection.execute("delete from message where id = $1", messages[1])
            await scene.connection.execute("delete from message_state where id = $1", messages[1])

        def reply(transid: str) -> tuple[int, bytes] | None:
            asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(10)
            return found(*(entry(number, "delivered", transid) for number in numbers))

        platform.reply = reply
        await scene.rounds(scene.reconciler())
        assert [len(await scene.polled(message)) for message in messages] == [0, 0, 1]
        assert (await scene.state(messages[2]))["state"] == State.DELIVERED
        assert await scene.ledger() == (1, 1, 0)
        assert await scene.connection.fetchval("select count(*) from awaited where poll_at is not null") == 0

    play(database, work, platform)


def test_every_receipt_of_a_poll_is_in_the_ledger_once(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry(NUMBER, "sent", transid), entry(NUMBER, "sent", transid))

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", NUMBER)
        await scene.awaits(message)
        await scene.rounds(scene.reconciler())
        assert await scene.ledger() == (2, 1, 1)
        assert await scene.connection.fetchval("select count(*) from receipt where feed = $1", Feed.POLL) == 1

    play(database, work, platform)
