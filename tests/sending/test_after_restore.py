"""docs/backup.md: what waited to be sent in a backup is not sent again, and is said to have gone out perhaps."""

from datetime import timedelta
from uuid import UUID

from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.sending import claims
from receiver.sending.claims import Share
from receiver.sending.lanes import Family, Lane
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.sending.platforms import Platform, one_transid, recording_platform
from tests.sending.senders import LEASE, UNCERTAIN, Sender, hand_in, sender, until, value
from tests.support import Database, run
from tests.test_docs import DOCS, FENCE

DELIVERED = 60
PATIENCE = timedelta(minutes=10)
STATES = "select array_agg(state order by id) from message_state"
(STATEMENTS,) = [text for language, text in FENCE.findall((DOCS / "backup.md").read_text()) if language == "sql"]


async def claim_next(one: Sender, *, marked: bool) -> None:
    """A process takes what waits longest, and dies before or after it said that it calls."""
    async with one.pool.acquire() as connection:
        lane = Lane(one.tenants.id_of("default"), Family.PLATFORM)
        (claim,) = await claims.claim(connection, [Share(lane, 1)], one.at, 1, LEASE)
        if marked:
            assert await claims.mark_sent(connection, [claim], one.at, LEASE)


async def delivered(one: Sender, identity: str) -> None:
    """A receipt of a message comes in that went out after the backup."""
    told = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900004", "code": "7500"}
    async with one.pool.acquire() as connection:
        group = [told_of(body(told, "t", identity), one.tenants.id_of("default"))]
        assert (await apply(connection, new_id(), one.at, Feed.PUSH, group)).messages == [UUID(identity)]


def test_what_waited_in_a_backup_is_not_sent_again_once_that_was_said(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform, resend_uncertain=PATIENCE) as backed_up:
            platform.reply = lambda _: (200, b"")  # an answer that is lost: held, to be sent again in ten minutes
            await hand_in(backed_up, "447700900000")
            backed_up.start()
            await until(backed_up, "select count(*) from resend", 1)
            await backed_up.stop()
            platform.reply = one_transid
            for number in range(1, 4):
                await hand_in(backed_up, f"44770090000{number}")
                backed_up.at += timedelta(microseconds=1)
            (known,) = await hand_in(backed_up, "447700900004")
            await claim_next(backed_up, marked=False)
            await claim_next(backed_up, marked=True)
            await delivered(backed_up, known)
        async with sender(database, platform, resend_uncertain=PATIENCE) as restored:
            async with restored.pool.acquire() as connection:
                await connection.execute(STATEMENTS)
            restored.at += timedelta(hours=1)
            restored.start()
            await until(restored, "select count(*) from outbox", 0)
            await until(restored, "select count(*) from resend", 0)
            await restored.stop()
            assert await value(restored, STATES) == [UNCERTAIN] * 4 + [DELIVERED]
            assert await value(restored, "select count(*) from submission where content is not null") == 0
            async with restored.pool.acquire() as connection:
                await assert_books_balance(connection)
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))
