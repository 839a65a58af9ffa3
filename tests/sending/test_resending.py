"""Sending again by policy: once, as a new message, and only what nobody has told of."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from receiver.errors import SettingsError
from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.sending.cancel import cancel
from receiver.sending.events import check_events
from receiver.sending.request import Request, check
from receiver.sending.resending import Resending
from receiver.settings import read_settings
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.sending.platforms import Call, Platform, Reply, one_transid, queued, recording_platform, sms
from tests.sending.senders import (
    ACCEPTED,
    LEASE,
    NUMBER,
    UNCERTAIN,
    Sender,
    called,
    hand_in,
    sender,
    take_in,
    until,
    value,
)
from tests.support import Database, eventually, receiver_process, run

PATIENCE = timedelta(minutes=10)
OTHER = "447700900002"
THIRD = "447700900003"
LOST: Reply = (200, b"")  # an answer that can't be read: it may have been sent
STATES = "select array_agg(state order by id)::text from message_state"
SETTLED = "select count(*) from outbox"
KEPT = "select count(*) from submission where content is not null"
DUE = "select count(*) from resend"
MESSAGES = "select count(*) from message"
EXPIRED, DELIVERED = 41, 60


def lost_at_first(then: Callable[[Call], Reply] = one_transid) -> Callable[[Call], Reply]:
    """Loses its answer to the first call for each number."""
    seen: set[str] = set()

    def reply(call: Call) -> Reply:
        known = call.numbers[0] in seen
        seen.update(call.numbers)
        return then(call) if known else LOST

    return reply


def play(database: Database, scene: Callable[[Sender, Platform], Awaitable[None]], **settings: Any) -> Platform:
    """A scene with a sender that resends after ten minutes unless it is told otherwise; the books must balance."""

    async def main(platform: Platform) -> None:
        platform.reply = lost_at_first()
        async with sender(database, platform, **{"resend_uncertain": PATIENCE, **settings}) as one:
            await scene(one, platform)
            async with one.pool.acquire() as connection:
                await assert_books_balance(connection)

    with recording_platform() as platform:
        run(main(platform))
    return platform


async def settle_all(one: Sender) -> None:
    """Everything in the outbox is sent and settled."""
    one.dispatcher.wake()
    await until(one, SETTLED, 0)


async def lose(one: Sender, *numbers: str, **more: Any) -> list[str]:
    """Hands in one SMS to each of these numbers, whose answer is lost; the ids of the messages."""
    one.start()
    ids = await hand_in(one, *(numbers or (NUMBER,)), **more)
    await settle_all(one)
    return ids


def resending(one: Sender) -> Resending:
    return one.dispatcher._tidying._resending


async def resend(one: Sender) -> None:
    """What the dispatcher does every five seconds, and the calls that come of it."""
    await resending(one).resend_due()
    await settle_all(one)


async def tell(one: Sender, identity: str, status: str, number: str = NUMBER, transid: str = "t") -> None:
    """A receipt of the message with this id."""
    told = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": number, "code": "7500"}
    async with one.pool.acquire() as connection:
        group = [told_of(body(told, transid, identity), one.tenants.id_of("default"))]
        applied = await apply(connection, new_id(), one.at, Feed.PUSH, group)
        assert applied.messages == [UUID(identity)]


async def nothing_goes_out_any_more(one: Sender) -> None:
    """However long it takes; and nothing is kept."""
    calls = await value(one, "select count(*) from attempt")
    for _ in range(3):
        one.at += timedelta(days=1)
        await resend(one)
    assert await value(one, "select count(*) from attempt") == calls
    assert await value(one, KEPT) == 0
    assert await value(one, DUE) == 0


def test_by_default_nothing_is_sent_again_and_nothing_is_kept(database: Database) -> None:
    async def scene(one: Sender, _: Platform) -> None:
        await lose(one)
        assert await value(one, DUE) == 0
        assert await value(one, KEPT) == 0
        await nothing_goes_out_any_more(one)
        assert await value(one, STATES) == f"{{{UNCERTAIN}}}"
        await one.stop()

    assert len(play(database, scene, resend_uncertain=None).calls) == 1


def test_it_goes_again_as_a_new_message_with_the_same_content_and_the_old_one_stays(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        more = {"correlationid": "order-1", "callbackData": "mine", "notifyurl": "https://client.example/told"}
        (old,) = await lose(one, priority="3", **more)
        one.at += PATIENCE - timedelta(seconds=1)
        await resend(one)
        assert len(platform.calls) == 1, "the patience is not over"
        assert await value(one, KEPT) == 1
        one.at += timedelta(seconds=1)
        await resend(one)
        await one.stop()
        new = str(await value(one, "select id from message where resend_of = $1", UUID(old)))
        first, second = platform.calls
        assert second.ids == [new]
        assert first.body["notifyurl"] != second.body["notifyurl"], (
            "receipts are told of the submission that they are of"
        )
        ours = ("destination", "notifyurl")
        assert {k: v for k, v in first.body.items() if k not in ours} == {
            k: v for k, v in second.body.items() if k not in ours
        }
        same = (
            "batch_id, destination, destination_type, correlationid, callback_data, sender, template, channel, tenant"
        )
        assert await value(one, f"select count(distinct ({same})) from message") == 1
        same = "batch_id, notifyurl, api, tenant"
        assert await value(one, f"select count(distinct ({same})) from submission") == 1
        assert await value(one, "select count(distinct id) from submission") == 2
        assert await value(one, STATES) == f"{{{UNCERTAIN},{ACCEPTED}}}"
        await tell(one, old, "Delivered")
        assert await value(one, STATES) == f"{{{DELIVERED},{ACCEPTED}}}", "a later receipt is of the old one"
        await nothing_goes_out_any_more(one)

    play(database, scene)


def test_the_resend_keeps_its_priority(database: Database) -> None:
    async def scene(one: Sender, _: Platform) -> None:
        await lose(one, priority="3")
        await one.stop()
        one.at += PATIENCE
        await resending(one).resend_due()
        assert await value(one, "select priority from outbox") == 3

    play(database, scene)


def test_many_processes_send_it_again_once_and_what_is_lost_twice_is_not_sent_a_third_time(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        platform.reply = lambda _: LOST
        numbers = [str(447700900100 + n) for n in range(40)]
        one.start()
        for number in numbers:
            await hand_in(one, number)
        await settle_all(one)
        async with sender(database, platform, resend_uncertain=PATIENCE) as other:
            other.start()
            one.at = other.at = one.at + PATIENCE
            await asyncio.gather(*(resending(each).resend_due() for each in (one, other) * 3))
            assert await value(one, DUE) == 0
            await settle_all(one)
            await other.stop()
        assert (await value(one, DUE), await value(one, KEPT)) == (0, 0), "of a resend nothing is kept"
        assert sorted(call.numbers[0] for call in platform.calls) == sorted(numbers * 2)
        assert await value(one, "select count(distinct resend_of) from message") == len(numbers)
        assert await value(one, "select bool_and(state = 5) from message_state"), "all stay listed"
        await nothing_goes_out_any_more(one)
        await one.stop()

    play(database, scene)


@pytest.mark.parametrize("status", ["Delivered", "Submitted", "a word that nobody knows"])
def test_any_receipt_in_time_prevents_it(database: Database, status: str) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        (identity,) = await lose(one)
        await tell(one, identity, status)
        await nothing_goes_out_any_more(one)
        await one.stop()
        assert len(platform.calls) == 1

    play(database, scene)


def test_a_receipt_that_is_being_applied_is_waited_for(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        (identity,) = await lose(one)
        one.at += PATIENCE
        told = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": NUMBER, "code": "7500"}
        async with one.pool.acquire() as connection:
            async with connection.transaction():
                group = [told_of(body(told, "t", identity), one.tenants.id_of("default"))]
                await apply(connection, new_id(), one.at, Feed.PUSH, group)
                waiting = asyncio.create_task(resending(one).resend_due())
                await until(one, "select count(*) from pg_locks where not granted", 1)
            await waiting
        await one.stop()
        assert await value(one, MESSAGES) == 1
        assert len(platform.calls) == 1

    play(database, scene)


def test_of_a_call_to_several_only_those_go_again_of_whom_nothing_was_told(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        ids = await lose(one, NUMBER, OTHER, THIRD)
        await tell(one, ids[1], "Undelivered", OTHER)
        one.at += PATIENCE
        await resend(one)
        assert [call.numbers for call in platform.calls] == [[NUMBER, OTHER, THIRD], [NUMBER, THIRD]]
        assert await value(one, "select message_count from submission order by id desc limit 1") == 2
        resent = "select array_agg(resend_of::text order by id) from message where resend_of is not null"
        assert await value(one, resent) == [ids[0], ids[2]]
        assert await value(one, "select message_count from batch") == 3, "it is what the client handed in"
        await nothing_goes_out_any_more(one)
        await one.stop()

    play(database, scene)


def test_of_a_mixed_answer_the_entry_of_which_it_says_nothing_goes_again(database: Database) -> None:
    def mixed(_call: Call) -> Reply:
        return 200, b'{"response":[{"code":"1001","transid":"t-1","description":"Queued"},{"description":"Hm"}]}'

    async def scene(one: Sender, platform: Platform) -> None:
        platform.reply = mixed
        await lose(one, NUMBER, OTHER)
        assert await value(one, STATES) == f"{{{ACCEPTED},{UNCERTAIN}}}"
        platform.reply = one_transid
        one.at += PATIENCE
        await resend(one)
        assert [call.numbers for call in platform.calls] == [[NUMBER, OTHER], [OTHER]]
        await nothing_goes_out_any_more(one)
        await one.stop()

    play(database, scene)


def test_what_has_expired_is_not_sent_again(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        await lose(one, expiry=(one.at + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ"))
        await nothing_goes_out_any_more(one)
        await one.stop()
        assert await value(one, MESSAGES) == 1
        assert len(platform.calls) == 1

    play(database, scene)


def test_the_resend_expires_when_its_message_would_have(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        await lose(one, expiry=(one.at + timedelta(minutes=20)).strftime("%Y-%m-%dT%H:%M:%SZ"))
        await one.stop()
        one.at += PATIENCE
        await resending(one).resend_due()
        async with sender(database, platform) as heir:
            heir.at = one.at + PATIENCE
            heir.start()
            await until(heir, SETTLED, 0)
            await heir.stop()
        assert await value(one, STATES) == f"{{{UNCERTAIN},{EXPIRED}}}"
        assert len(platform.calls) == 1

    play(database, scene)


def test_a_dispatcher_that_is_killed_under_way_has_its_message_sent_again_once(database: Database) -> None:
    async def scene(dead: Sender, platform: Platform) -> None:
        platform.replies[NUMBER] = lambda call: None if len(platform.calls) == 1 else one_transid(call)
        await hand_in(dead, NUMBER)
        dead.start()
        await called(platform, 1)
        await dead.kill()
        async with sender(database, platform, resend_uncertain=PATIENCE) as heir:
            heir.at = dead.at + LEASE + timedelta(seconds=1)
            heir.start()
            await until(heir, SETTLED, 0)
            assert await value(heir, STATES) == f"{{{UNCERTAIN}}}"
            heir.at = dead.at + PATIENCE - timedelta(seconds=1)
            await resend(heir)
            assert len(platform.calls) == 1, "it is counted from the call"
            heir.at = dead.at + PATIENCE
            await resend(heir)
            assert await value(heir, STATES) == f"{{{UNCERTAIN},{ACCEPTED}}}"
            await nothing_goes_out_any_more(heir)
            await heir.stop()
        assert len(platform.calls) == 2

    play(database, scene)


def test_a_process_that_dies_while_it_resends_leaves_it_to_the_next_one(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        await lose(one)
        one.at += PATIENCE
        async with one.pool.acquire() as dying:
            transaction = dying.transaction()
            await transaction.start()
            assert await resending(one)._resend_next(dying) is not None
            assert not await resending(one).resend_due(), "somebody has it in hand"
            assert await value(one, MESSAGES) == 1
            await transaction.rollback()
        await resend(one)
        assert await value(one, STATES) == f"{{{UNCERTAIN},{ACCEPTED}}}"
        await nothing_goes_out_any_more(one)
        await one.stop()
        assert len(platform.calls) == 2

    play(database, scene)


def test_an_answer_that_comes_after_the_lease_keeps_it_from_being_sent_again(database: Database) -> None:
    async def scene(slow: Sender, platform: Platform) -> None:
        def answer_late(_call: Call) -> Reply:
            platform.let_go.wait(10)
            return queued("late")

        platform.reply = answer_late
        async with sender(database, platform, resend_uncertain=PATIENCE) as other:
            await hand_in(slow, NUMBER)
            slow.start()
            await called(platform, 1)
            other.at = slow.at + LEASE + timedelta(seconds=1)
            other.start()
            await until(other, "select state from message_state", UNCERTAIN)
            platform.let_go.set()
            await until(slow, "select state from message_state", ACCEPTED)
            assert await value(slow, KEPT) == 0, "it is the final answer"
            await nothing_goes_out_any_more(other)
            await slow.stop()
            await other.stop()
        assert len(platform.calls) == 1

    play(database, scene)


def test_a_resend_can_be_cancelled_before_it_is_claimed(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        (old,) = await lose(one)
        await one.stop()
        one.at += PATIENCE
        await resending(one).resend_due()
        new = await value(one, "select id from message where resend_of = $1", UUID(old))
        await cancel(one.pool, one.tenants.id_of("default"), new, one.at, keep_content=False)
        await nothing_goes_out_any_more(one)
        assert len(platform.calls) == 1

    play(database, scene)


def test_what_the_tenant_does_not_want_any_more_is_dropped_and_its_content_erased(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        await lose(one)
        await one.stop()
        async with sender(database, platform) as changed:
            changed.at = one.at + PATIENCE
            await nothing_goes_out_any_more(changed)
        assert len(platform.calls) == 1

    play(database, scene)


def test_events_and_what_a_client_waits_for_are_never_sent_again(database: Database) -> None:
    async def scene(one: Sender, platform: Platform) -> None:
        platform.reply = lambda _: LOST
        one.start()
        events = check_events({"events": [{"eventid": "e", "evtid": "1", "customerid": "c", "parameters": {}}]})
        in_line = check(sms(NUMBER))
        assert isinstance(in_line, Request)
        accepted = await take_in(one, in_line, in_line_lease=LEASE)
        await one.dispatcher.send_now(accepted.submissions, one.tenants.id_of("default"), 2.0)
        if isinstance(events, Request):
            await take_in(one, events)
        await settle_all(one)
        assert await value(one, "select bool_and(state = 5) from message_state")
        await nothing_goes_out_any_more(one)
        await one.stop()
        assert isinstance(events, Request), events
        assert len(platform.calls) == 2

    play(database, scene)


def test_the_doors_tell_of_both(database: Database, tmp_path: Path) -> None:
    with recording_platform() as platform:
        platform.reply = lost_at_first()
        more = {"RECEIVER_RESEND_UNCERTAIN": "10", "RECEIVER_LEASE": "4", "RECEIVER_PLATFORM_TIMEOUT": "2"}
        with (
            receiver_process(database, tmp_path, platform_url=platform.url, **more) as receiver,
            receiver.client(database.key()) as api,
        ):
            once = {"idempotency-key": "one"}
            first = api.post("/v1/messages", json=sms(NUMBER), headers=once).json()
            old = first["messages"][0]["id"]
            eventually(lambda: api.get(f"/v1/messages/{old}").json()["state"] == "uncertain")
            assert api.get(f"/v1/messages/{old}").json()["resent_as"] is None
            database.fetch("update resend set due_at = now()")
            new = eventually(lambda: api.get(f"/v1/messages/{old}").json()["resent_as"])
            found = eventually(lambda: [m for m in [api.get(f"/v1/messages/{new}").json()] if m["state"] == "accepted"])
            assert (found[0]["resend_of"], found[0]["resent_as"]) == (old, None)
            assert found[0]["batch_id"] == first["batch_id"]
            listed = api.get("/v1/messages", params={"batch_id": first["batch_id"]}).json()["messages"]
            assert [(m["id"], m["resend_of"]) for m in listed] == [(new, old), (old, None)]
            uncertain = api.get("/v1/messages", params={"state": "uncertain"}).json()["messages"]
            assert [m["id"] for m in uncertain] == [old]
            again = api.post("/v1/messages", json=sms(NUMBER), headers=once)
            assert [m["id"] for m in again.json()["messages"]] == [old], "the first answer, as it was"
            assert 'receiver_resends_total{tenant="default"} 1.0' in api.get("/metrics").text
            assert len(platform.calls) == 2


GOOD = {
    "RECEIVER_DATABASE_URL": "postgresql://localhost/receiver",
    "RECEIVER_PUBLIC_URL": "https://receiver.example",
    "RECEIVER_SECRET": "the-secret-of-the-tokens",
}


@pytest.mark.parametrize(
    ("text", "patience"),
    [(None, None), ("0", None), ("10", PATIENCE), ("1440", timedelta(days=1))],
)
def test_the_setting_is_in_minutes(text: str | None, patience: timedelta | None) -> None:
    more = {} if text is None else {"RECEIVER_RESEND_UNCERTAIN": text}
    assert read_settings(GOOD | more).tenant("default").resend_uncertain == patience


@pytest.mark.parametrize("text", ["1441", "-1", "1.5", "soon", "9" * 30])
def test_a_bad_setting_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="RECEIVER_RESEND_UNCERTAIN"):
        read_settings(GOOD | {"RECEIVER_RESEND_UNCERTAIN": text})


def test_a_table_takes_a_number(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text("[tenant.shop]\nresend_uncertain = 10\n")
    assert read_settings(GOOD | {"RECEIVER_CONFIG": str(file)}).tenant("shop").resend_uncertain == PATIENCE
