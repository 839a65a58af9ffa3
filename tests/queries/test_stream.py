"""The stream: filters, resuming anywhere, ids that are too old or foreign, slow readers, and the end."""

import asyncio
import json
import random
from datetime import timedelta
from typing import Any

import pytest

from receiver.ids import TenantId
from receiver.queries import streaming as sending
from receiver.queries.positions import Position, id_of, mark_of, read_id
from receiver.queries.stream import MOST_WAITING
from tests.queries.changes import be_born, change, in_order
from tests.queries.streams import Client, streaming
from tests.support import Database, run


def problem(client: Client) -> tuple[int, str, str]:
    body = json.loads(client.text)
    return client.status, body["code"], " ".join(error["pointer"] for error in body["errors"])


async def refused(client: Client) -> tuple[int, str, str]:
    await client.until(lambda c: c.is_over)
    return problem(client)


def test_a_change_is_told_with_what_its_message_is_called(database: Database) -> None:
    tenant, key = database.tenant(), database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "content-length" not in client.headers
            assert client.text.startswith("retry: ")
            ready = client.events[0]
            assert (ready.name, ready.data) == ("ready", {"resumed": False})
            message = await be_born(writer, tenant, "order-1")
            await change(writer, message, tenant, 60)
            await client.until(lambda c: c.changes)
            told = client.events[1].data
            assert told.pop("at")
            assert told == {
                "id": str(message),
                "version": 1,
                "state": "delivered",
                "old_state": None,
                "final": True,
                "channel": "sms",
                "origin": "observed",
                "country": None,
                "reason_class": None,
                "conflict": False,
                "correlationid": "order-1",
                "sent_correlationid": "order-1",
                "callbackData": None,
                "batch_id": None,
                "merged_into": None,
            }
            await client.leave()

    run(scenario())


def test_a_message_that_turned_out_to_be_another_says_which(database: Database) -> None:
    tenant, key = database.tenant(), database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            observed, issued = await be_born(writer, tenant), await be_born(writer, tenant)
            await change(writer, observed, tenant, 60)
            await writer.execute("update message_state set merged_into = $2 where id = $1", observed, issued)
            await writer.execute(
                """insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state)
                   values (now(), $1, 2, $2, 2, 1, 60, null)""",
                observed,
                tenant,
            )
            await client.until(lambda c: len(c.changes) == 2)
            told = client.events[-1].data
            assert (told["state"], told["old_state"], told["merged_into"]) == (None, "delivered", str(issued))
            assert told["final"] is False
            again = await place.begun(key, client.events[0].id)
            await again.until(lambda c: len(c.changes) == 2)
            assert [e.data for e in again.events[1:]] == [e.data for e in client.events[1:]], "ids may differ"
            for one in (client, again):
                await one.leave()

    run(scenario())


def test_filters_let_through_what_they_say_and_another_tenant_sees_nothing(database: Database) -> None:
    tenant, other = database.tenant(), database.tenant("other")
    key, foreign = database.key("read"), database.key("read", tenant="other")

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            wishes: dict[str, dict[str, Any]] = {
                "all": {},
                "delivered": {"state": ["delivered", "read"]},
                "open": {"final": "false"},
                "named": {"correlationid": "mine"},
                "voice": {"channel": "voice"},
                "issued": {"origin": "issued"},
                "observed and final": {"origin": ["issued", "observed"], "final": "true"},
            }
            clients = {name: await place.begun(key, **wish) for name, wish in wishes.items()}
            mine, yours = await be_born(writer, tenant, "mine"), await be_born(writer, tenant, "yours")
            clients["one"] = await place.begun(key, id=str(yours).upper())
            stranger = await place.begun(foreign)
            theirs = await be_born(writer, other, "mine")
            for message, owner, state in (
                (mine, tenant, 10),
                (yours, tenant, 20),
                (theirs, other, 60),
                (mine, tenant, 60),
                (yours, tenant, 45),
            ):
                await change(writer, message, owner, state)
            a, b = str(mine), str(yours)
            expected = {
                "all": [(a, 1), (b, 1), (a, 2), (b, 2)],
                "delivered": [(a, 2)],
                "open": [(a, 1), (b, 1)],
                "named": [(a, 1), (a, 2)],
                "voice": [],
                "issued": [],
                "observed and final": [(a, 2), (b, 2)],
                "one": [(b, 1), (b, 2)],
            }
            await clients["all"].until(lambda c: len(c.changes) == 4)
            for name, client in clients.items():
                await client.until(lambda c, n=name: len(c.changes) >= len(expected[n]))
                assert client.changes == expected[name], name
            await stranger.until(lambda c: c.changes)
            assert stranger.changes == [(str(theirs), 1)]
            resumed = await place.begun(foreign, clients["all"].events[0].id)
            await resumed.until(lambda c: c.changes)
            assert resumed.changes == [(str(theirs), 1)], "an id opens no other tenant's changes"
            for client in (*clients.values(), stranger, resumed):
                await client.leave()

    run(scenario())


def test_a_client_that_leaves_anywhere_and_comes_back_elsewhere_sees_each_change_once(database: Database) -> None:
    tenant, key = database.tenant(), database.key("read")

    async def scenario() -> None:
        dice = random.Random(4)
        async with streaming(database, places=2) as (writer, _, *places):
            messages = [await be_born(writer, tenant) for _ in range(10)]
            written = 0
            is_over = asyncio.Event()
            first = await places[0].begun(key)
            await first.leave()

            async def write() -> None:
                nonlocal written
                while not is_over.is_set():
                    async with writer.transaction():
                        for message in sorted(dice.sample(messages, dice.randint(1, 8))):
                            await change(writer, message, tenant)
                            written += 1
                    await asyncio.sleep(dice.random() * 0.02)

            writing = asyncio.create_task(write())
            seen: list[tuple[Any, int]] = []
            last = first.events[0].id
            for _ in range(25):
                client = await dice.choice(places).begun(key, last)
                await asyncio.sleep(dice.random() * 0.25)
                await client.leave()
                text = client.text[: dice.randint(0, len(client.text))] if dice.random() < 0.5 else client.text
                whole = text[: text.rfind("\n\n") + 2] if "\n\n" in text else ""
                cut = Client.__new__(Client)
                cut.text = whole
                seen += cut.changes
                last = cut.events[-1].id if cut.events else last
            assert seen, "some was seen before the end"
            is_over.set()
            await writing
            client = await places[0].begun(key, last)
            await client.until(lambda c: len(seen) + len(c.changes) >= written)
            seen += client.changes
            await client.leave()
            assert len(seen) == written
            assert in_order(seen)

    run(scenario())


def test_what_was_missed_is_read_in_pages_and_the_present_follows_without_a_gap(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, key = database.tenant(), database.key("read")
    monkeypatch.setattr(sending, "PAGE", 7)
    monkeypatch.setattr(sending, "NEAR", 50)

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            await client.leave()
            messages = [await be_born(writer, tenant) for _ in range(5)]

            async def write(count: int) -> None:
                for n in range(count):
                    await change(writer, messages[n % 5], tenant)

            await write(200)
            again = place.open(key, client.events[0].id)
            await write(200)
            await again.until(lambda c: len(c.changes) >= 400)
            assert len(again.changes) == 400
            assert in_order(again.changes)
            assert again.events[0].data == {"resumed": True}
            await again.leave()

    run(scenario())


def test_an_id_that_is_too_old_foreign_or_none_is_told_so(database: Database) -> None:
    key = database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (_, clock, place):
            client = await place.begun(key)
            identity = client.events[0].id
            assert identity is not None
            position = read_id(identity)[1]
            assert read_id(identity)[0] == mark_of(place.watch.cluster)
            foreign = id_of(place.watch.cluster + 1, position)
            future = Position(position.until._replace(xmax=position.until.xmax + 10_000_000))
            for bad in ("x", "", "0" * 200, foreign, id_of(place.watch.cluster, future), identity[:-1]):
                for asked in (place.open(key, bad), place.open(key, **{"from": bad})):
                    if bad:
                        assert await refused(asked) == (400, "bad_event_id", "Last-Event-ID")
                    else:
                        asked.task.cancel()
            clock.at += timedelta(hours=23, minutes=59)
            again = await place.begun(key, **{"from": identity})
            await again.leave()
            clock.at += timedelta(minutes=2)
            assert await refused(place.open(key, identity)) == (410, "event_too_old", "")
            await client.leave()

    run(scenario())


def test_bad_requests_name_what_is_wrong_and_ask_the_database_nothing(database: Database) -> None:
    key = database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (_, _, place):
            bad = {"state": "nowhere", "final": "perhaps", "id": "7", "channel": "pigeon", "from": ["a", "b"]}
            status, code, pointers = await refused(place.open(key, **bad))
            assert (status, code) == (400, "bad_parameter")
            assert set(pointers.split()) == set(bad)
            assert await refused(place.open(key, nothing="x")) == (400, "bad_parameter", "nothing")
            assert await refused(place.open(key, batch_id="\0")) == (400, "bad_parameter", "batch_id")
            assert place.watch.position is None
            assert (await refused(place.open("rk_0123456789ab_no")))[:2] == (401, "unauthorized")

    run(scenario())


def test_more_streams_than_allowed_are_refused_until_one_ends(database: Database) -> None:
    key = database.key("read")

    async def scenario() -> None:
        async with streaming(database, most=2) as (_, _, place):
            first, second = await place.begun(key), await place.begun(key)
            third = place.open(key)
            assert await refused(third) == (503, "too_many_streams", "")
            assert third.headers["retry-after"]
            assert (await refused(place.open(key, "x")))[0] == 400, "a refused one takes no place"
            await first.leave()
            third = await place.begun(key)
            for client in (second, third):
                await client.leave()

    run(scenario())


def test_a_slow_reader_is_dropped_with_a_word_and_comes_back_without_a_gap(database: Database) -> None:
    tenant, key = database.tenant(), database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            quick, slow = await place.begun(key), await place.begun(key)
            message = await be_born(writer, tenant)
            await change(writer, message, tenant)
            await slow.until(lambda c: c.changes)
            slow.tap.clear()
            await _many(writer, message, tenant, MOST_WAITING + 2_000)
            await quick.until(lambda c: len(c.changes) == MOST_WAITING + 2_001, seconds=60)
            slow.tap.set()
            await slow.until(lambda c: c.is_over)
            *_, last = slow.events
            resume = [event.id for event in slow.events if event.id][-1]
            assert (last.name, last.data["reason"], last.data["resume_from"]) == ("dropped", "overflow", resume)
            assert len(slow.changes) < MOST_WAITING
            again = await place.begun(key, resume)
            await again.until(lambda c: len(slow.changes) + len(c.changes) >= MOST_WAITING + 2_001, seconds=60)
            assert slow.changes + again.changes == quick.changes
            assert in_order(quick.changes)
            for client in (quick, again):
                await client.leave()

    run(scenario())


async def _many(writer: Any, message: Any, tenant: TenantId, count: int) -> None:
    """So many changes of one message, in a few transactions."""
    for _ in range(4):
        await writer.execute(
            """insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state)
               select now(), $1, (select max(version) from change where message_id = $1) + n, $2, 2, 1, 10, 10
                 from generate_series(1, $3::int) n""",
            message,
            tenant,
            count // 4,
        )


def test_a_reader_that_takes_nothing_is_let_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, key = database.tenant(), database.key("read")
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.3)

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            client.tap.clear()
            message = await be_born(writer, tenant)
            await change(writer, message, tenant)
            await asyncio.wait_for(client.task, 5)
            assert not client.is_over
            assert not client.changes

    run(scenario())


def test_heartbeats_come_in_silence_and_checkpoints_carry_an_id(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, key = database.tenant(), database.key("read")
    monkeypatch.setattr(sending, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(sending, "CHECKPOINT_SECONDS", 0.5)
    monkeypatch.setattr(sending, "KEY_SECONDS", 0.05)

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key, state="read")
            message = await be_born(writer, tenant)
            await change(writer, message, tenant, 10)
            await client.until(lambda c: len(c.events) >= 2)
            assert ": still here" in client.text
            checkpoint = client.events[-1]
            assert checkpoint.name == "checkpoint"
            await client.leave()
            again = await place.begun(key, checkpoint.id)
            await change(writer, message, tenant, 60)
            await again.until(lambda c: c.changes)
            assert again.changes == [(str(message), 2)]
            await again.leave()

    run(scenario())


def test_the_stream_of_a_revoked_key_ends_with_a_word(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    key = database.key("read")
    monkeypatch.setattr(sending, "KEY_SECONDS", 0.5)

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            await writer.execute("update api_key set revoked_at = now()")
            began = asyncio.get_running_loop().time()
            await client.until(lambda c: c.is_over)
            assert asyncio.get_running_loop().time() - began < 10
            assert (client.events[-1].name, client.events[-1].data["reason"]) == ("closing", "key")

    run(scenario())


def test_at_the_end_of_the_process_streams_say_so_and_new_ones_are_refused(database: Database) -> None:
    key = database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (_, _, place):
            client = await place.begun(key)
            await place.watch.close()
            await client.until(lambda c: c.is_over, seconds=1)
            last = client.events[-1]
            assert (last.name, last.data["reason"]) == ("closing", "draining")
            assert last.data["resume_from"] == client.events[0].id
            await asyncio.wait_for(client.task, 1)
            assert (await refused(place.open(key)))[:2] == (503, "too_many_streams")

    run(scenario())


def test_at_the_end_of_the_process_nobody_waits_long_for_one_who_takes_nothing(database: Database) -> None:
    tenant, key = database.tenant(), database.key("read")

    async def scenario() -> None:
        async with streaming(database) as (writer, _, place):
            client = await place.begun(key)
            client.tap.clear()
            await change(writer, await be_born(writer, tenant), tenant)
            await place.watch.close()
            await asyncio.wait_for(client.task, sending.LAST_SECONDS + 3)
            assert not client.is_over

    run(scenario())


def test_head_is_answered_without_a_stream(database: Database) -> None:
    key = database.key("read")

    async def scenario() -> None:
        async with streaming(database, most=1) as (_, _, place):
            for _ in range(2):
                client = place.open(key, method="HEAD")
                await client.until(lambda c: c.is_over)
                assert (client.status, client.text) == (200, "")
                await asyncio.wait_for(client.task, 1)

    run(scenario())
