"""Which receipts are queued to go on, and to whom: in the same transaction that stores them, once each."""

from uuid import UUID

from receiver.forwarding import queue
from receiver.forwarding.forwarder import LEASE
from receiver.ids import NO_LEG, leg_digest
from receiver.messages.lattice import Channel
from receiver.messages.store import apply_known
from receiver.messages.store import connect as file_under
from receiver.messages.told import Feed, transid_digest
from tests.forwarding.clients import NUMBER, Scene, delivered, play
from tests.receipts.tellings import told_of
from tests.support import Database, now

MINE, THEIRS = "https://client.example/receipts?secret=1", "https://tenant.example/all"


async def targets(scene: Scene) -> list[tuple[UUID, str]]:
    return [(row["message_id"], row["url"]) for row in await scene.rows()]


def test_each_new_receipt_of_ours_is_queued_for_the_client_s_address_and_a_retold_one_is_not(
    database: Database,
) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(MINE)
        for status in ("Submitted", "Delivered", "Submitted", "Delivered"):
            await scene.tell(delivered("t-1", str(message), status=status))
        assert await targets(scene) == [(message, MINE)] * 2
        await scene.connection.execute("delete from forward")
        await scene.tell(delivered("t-1", str(message)))
        assert await targets(scene) == []

    play(database, work)


def test_the_client_s_address_goes_before_the_tenant_s(database: Database) -> None:
    async def work(scene: Scene) -> None:
        with_own, _ = await scene.issue(MINE)
        without, _ = await scene.issue(None)
        for message in (with_own, without):
            await scene.tell(delivered(f"t-{message}", str(message)))
        await scene.tell(delivered("never-seen"))
        found = await targets(scene)
        assert found[:2] == [(with_own, MINE), (without, THEIRS)]
        assert [url for _, url in found[2:]] == [THEIRS]

    play(database, work, forward_to=THEIRS)


def test_without_an_address_nothing_is_queued(database: Database) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(None)
        await scene.tell(delivered("t-1", str(message)))
        await scene.tell(delivered("never-seen"))
        assert await targets(scene) == []

    play(database, work)


def test_a_tenant_that_forwards_nothing_is_not_looked_at(database: Database) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(MINE)
        await scene.tell(delivered("t-1", str(message)))
        assert await targets(scene) == []

    play(database, work, forwards=False)


def test_only_what_the_platform_told_goes_on_by_whatever_feed_it_came(database: Database) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(MINE)
        for feed in (Feed.ANSWER, Feed.OWN):
            told = told_of(delivered(f"a-{feed}", str(message)), scene.tenant)
            await apply_known(scene.connection, now(), feed, [message], [told])
        assert await targets(scene) == []
        for feed in (Feed.PUSH, Feed.IMPORT, Feed.POLL, Feed.REPLAY):  # an answer to our question is no notification
            await scene.tell(delivered(f"t-{feed}", str(message)), feed=feed)
        assert await targets(scene) == [(message, MINE)] * 3

    play(database, work)


def test_a_child_s_receipts_go_where_its_event_s_do(database: Database) -> None:
    async def work(scene: Scene) -> None:
        event, _ = await scene.issue(MINE, channel=Channel.EVENT, number="")
        await scene.tell(delivered("t-1", str(event)))
        ((child, url),) = await targets(scene)
        assert url == MINE
        assert child != event
        assert await scene.connection.fetchval("select parent_id from message where id = $1", child) == event

    play(database, work)


def test_what_came_before_its_message_was_known_goes_on_when_they_are_merged(database: Database) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(MINE)
        await scene.tell(delivered("t-1"))
        assert await targets(scene) == []
        for _ in range(2):  # the second time there is nothing to merge
            async with scene.connection.transaction():
                keys = [(transid_digest("t-1"), leg_digest("", NUMBER), message)]
                await file_under(scene.connection, now(), scene.tenant, keys)
        assert await targets(scene) == [(message, MINE)]

    play(database, work)


def test_what_the_tenant_s_address_was_told_already_is_not_told_there_again_after_a_merge(database: Database) -> None:
    async def work(scene: Scene) -> None:
        for number, url in enumerate((THEIRS, None)):
            message, _ = await scene.issue(url)
            await scene.tell(delivered(f"t-{number}"))
            async with scene.connection.transaction():
                keys = [(transid_digest(f"t-{number}"), leg_digest("", NUMBER), message)]
                await file_under(scene.connection, now(), scene.tenant, keys)
            assert await scene.connection.fetchval("select count(*) from receipt where message_id = $1", message) == 1
        assert [url for _, url in await targets(scene)] == [THEIRS, THEIRS]

    play(database, work, forward_to=THEIRS)


def test_what_came_before_its_event_was_known_goes_on_when_it_becomes_a_child(database: Database) -> None:
    async def work(scene: Scene) -> None:
        event, _ = await scene.issue(MINE, channel=Channel.EVENT, number="")
        await scene.tell(delivered("t-1"))
        assert await targets(scene) == []
        async with scene.connection.transaction():
            await file_under(scene.connection, now(), scene.tenant, [(transid_digest("t-1"), NO_LEG, event)])
        child = await scene.connection.fetchval("select id from message where parent_id = $1", event)
        assert await targets(scene) == [(child, MINE)]

    play(database, work)


def test_what_still_waited_for_the_tenant_s_address_goes_to_the_event_s_when_it_becomes_a_child(
    database: Database,
) -> None:
    """The message stays the one that it was, so the receipt stands in the queue already: waiting, or under way."""

    async def work(scene: Scene) -> None:
        for number in range(2):
            event, _ = await scene.issue(MINE, channel=Channel.EVENT, number="")
            await scene.tell(delivered(f"t-{number}"))
            assert [url for _, url in await targets(scene)] == [THEIRS]
            under_way = await queue.claim(scene.connection, now(), number, {}, 8, LEASE)
            assert len(under_way) == number
            async with scene.connection.transaction():
                await file_under(
                    scene.connection, now(), scene.tenant, [(transid_digest(f"t-{number}"), NO_LEG, event)]
                )
            await queue.settle(scene.connection, under_way, [])  # it was told there: here it has still to be
            child = await scene.connection.fetchval("select id from message where parent_id = $1", event)
            assert await targets(scene) == [(child, MINE)]
            assert len(await queue.claim(scene.connection, now(), 8, {}, 8, LEASE)) == 1
            await scene.connection.execute("delete from forward")

    play(database, work, forward_to=THEIRS)


def test_a_forged_receipt_goes_nowhere(database: Database) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(MINE)
        _, other = await scene.issue(MINE)
        await scene.tell(delivered("t-1", str(message)), other)
        assert await targets(scene) == []

    play(database, work)


def test_of_an_address_the_queue_shows_no_more_than_its_host(database: Database) -> None:
    async def work(scene: Scene) -> None:
        for url, host in (
            ("HTTPS://Client.Example:8443/a/b?c=https://x#d", "https://client.example:8443"),
            ("https://user:secret@client.example/", "https://client.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("nonsense", ""),
        ):
            await scene.queue(url, 1)
            assert (await scene.rows())[-1]["host"] == host

    play(database, work)


def test_the_tenant_s_address_is_stored_and_taken_back_by_what_serves(database: Database) -> None:
    row = "select forward_to, forwards from tenant where name = 'default'"

    async def work(scene: Scene) -> None:
        assert list(await scene.connection.fetchrow(row) or ()) == [THEIRS, True]

    async def without(scene: Scene) -> None:
        await scene.tenants.load(scene.connection)
        assert list(await scene.connection.fetchrow(row) or ()) == [None, True]

    play(database, work, forward_to=THEIRS, forwards=False)
    play(database, without, forwards=False)
