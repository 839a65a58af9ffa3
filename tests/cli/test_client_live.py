"""The client against a receiver that runs: what it returns, what it waits for, and what it survives."""

import asyncio
import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from receiver.client import ApiError, AsyncClient, CannotResume, Client
from receiver.errors import ReceiverError
from tests.cli.cutting import cutting
from tests.sending.platforms import receipt, recording_platform, tell
from tests.support import Receiver, cloned, eventually, free_port, receiver_process

BODY = {
    "deliverychannel": "sms",
    "channels": {"sms": {"text": "Hello", "type": "1", "senderid": "SHOP"}},
    "destination": [{"msisdn": ["447700900001"], "correlationid": "order-1"}],
}


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("client")
    with (
        cloned(postgres, template, "client") as database,
        recording_platform() as platform,
        receiver_process(database, folder, platform_url=platform.url) as receiver,
    ):
        yield receiver


@pytest.fixture(scope="module")
def key(receiver: Receiver) -> str:
    return receiver.database.key()


def delivered(receiver: Receiver, message_id: str, number: str = "447700900001") -> None:
    assert tell(receiver.notify_url(), receipt("Delivered", "7500", number, correlationid=message_id)) == 200


def observed(receiver: Receiver, *names: str) -> None:
    """Receipts of messages that nobody here has sent, one after the other."""
    for name in names:
        told = receipt("Delivered", "7500", "447700900009", correlationid=name, transid=name)
        assert tell(receiver.notify_url(), told) == 200


def test_everything_that_can_be_asked(receiver: Receiver, key: str) -> None:
    with Client(receiver.url, key) as client:
        sent = client.send(BODY, idempotency_key="one")
        assert "replayed" not in sent
        assert client.send(BODY, idempotency_key="one") == {**sent, "replayed": True}
        identity = sent["messages"][0]["id"]
        assert client.wait(identity, "delivered", 0.2).outcome == "timeout"
        assert client.get(identity)["state"] == "accepted"
        seen = client.look(identity)
        assert client.look(identity, etag=seen.etag) == (None, seen.etag)
        delivered(receiver, identity)
        waited = client.wait(identity, "delivered", 20)
        assert (waited.outcome, waited.message["final"]) == ("reached", True)
        changed = client.look(identity, etag=seen.etag).message
        assert changed is not None
        assert changed["reason"] is None
        assert client.explain(identity)["steps"][-1]["after"] == "delivered"
        assert client.batch(sent["batch_id"])["states"] == {"delivered": 1}
        assert [m["id"] for m in client.find({"correlationid": ["order-1", "x"], "conflict": False})] == [identity]
        assert [m["id"] for m in client.export({"batch_id": sent["batch_id"]})] == [identity]
        page = client.page({"batch_id": sent["batch_id"], "total": True, "limit": 1})
        assert page["total"] == {"value": 1, "accuracy": "exact"}
        now = datetime.now(UTC)
        told = client.stats({"by": "day,channel", "from": now - timedelta(days=2), "origin": ["issued"]})
        assert told["by"] == ["day", "channel"]
        with pytest.raises(ApiError, match="bad_parameter") as caught:
            list(client.find({"colour": "red"}))
        assert (caught.value.status, caught.value.errors[0]["pointer"]) == (400, "colour")
        assert key not in repr(client) + str(caught.value)


def test_everything_that_can_be_asked_and_awaited(receiver: Receiver, key: str) -> None:
    async def scenario() -> None:
        async with AsyncClient(receiver.url, key) as client:
            sent = await client.send(BODY, idempotency_key="two")
            assert (await client.send(BODY, idempotency_key="two")).get("replayed")
            identity, batch = sent["messages"][0]["id"], sent["batch_id"]
            waiting = asyncio.create_task(client.wait(identity, "delivered", 20))
            seen = await client.look(identity)
            assert (await client.look(identity, wait=0.1, until="change", etag=seen.etag)).etag is not None
            await asyncio.to_thread(delivered, receiver, identity)
            assert (await waiting).outcome == "reached"
            assert (await client.get(identity))["state"] == "delivered"
            assert (await client.explain(identity))["final"]
            assert (await client.batch(batch))["messages"] == 1
            assert (await client.page({"batch_id": batch}))["messages"][0]["id"] == identity
            assert [m["id"] async for m in client.find({"batch_id": batch})] == [identity]
            assert [m["id"] async for m in client.export({"batch_id": batch})] == [identity]
            csv = b"".join([part async for part in client.export_bytes({"batch_id": batch}, "csv")])
            assert csv.count(b"\r\n") == 2
            assert (await client.stats({"by": ["channel", "day"]}))["by"] == ["day", "channel", "origin"]
            with pytest.raises(ApiError) as caught:
                await client.get("0199c3f2-5a1b-7c3d-8e4f-0123456789ab")
            assert caught.value.code == "message_not_found"
            assert key not in repr(client) + str(caught.value)

    asyncio.run(scenario())


def test_a_wait_hears_of_what_will_not_be_any_more(receiver: Receiver, key: str) -> None:
    with Client(receiver.url, key) as client:
        identity = client.send(BODY)["messages"][0]["id"]

        def fail() -> None:
            told = receipt("Undelivered", "7207", "447700900001", correlationid=identity)
            assert tell(receiver.notify_url(), told) == 200

        later = threading.Timer(0.3, fail)
        later.start()
        waited = client.wait(identity, "delivered", 20)
        later.join()
        assert (waited.outcome, waited.message["state"]) == ("unreachable", "undelivered")


def test_pages_follow_each_other_without_a_gap(receiver: Receiver, key: str) -> None:
    body = {**BODY, "destination": [{"msisdn": [f"4477009{n:05}" for n in range(25)]}]}
    with Client(receiver.url, key) as client:
        sent = client.send(body)
        found = [m["id"] for m in client.find({"batch_id": sent["batch_id"], "limit": 7})]
        assert sorted(found, reverse=True) == found
        assert set(found) == {m["id"] for m in sent["messages"]}
        assert len(found) == 25


MANY = 30


def budgets(seed: int) -> Callable[[], int | None]:
    chance = random.Random(seed)
    return lambda: chance.randrange(300, 2500)


def test_a_stream_through_a_bad_connection_tells_each_change_once(receiver: Receiver, key: str) -> None:
    with cutting(receiver.url, budgets(1)) as proxy, Client(proxy.url, key) as client:
        names = [f"bad-{n}" for n in range(MANY)]
        stream = client.stream({"correlationid": names}, checkpoints=True)
        with closing(stream):
            assert next(stream).name == "ready"
            telling = threading.Thread(target=observed, args=(receiver, *names))
            telling.start()
            changes = (event.change for event in stream if event.name == "change")
            told = [change["correlationid"] for change in islice(changes, MANY)]
            telling.join()
    assert told == names
    assert proxy.cuts >= 3


def test_a_stream_that_is_awaited_goes_on_too(receiver: Receiver, key: str) -> None:
    names = [f"async-{n}" for n in range(MANY)]

    async def scenario(url: str) -> list[str | None]:
        told: list[str | None] = []
        async with AsyncClient(url, key) as client:
            stream = client.stream({"correlationid": names}, checkpoints=True)
            async with aclosing(stream):
                telling = None
                async for event in stream:
                    if event.name == "ready" and telling is None:
                        telling = asyncio.create_task(asyncio.to_thread(observed, receiver, *names))
                    elif event.name == "change":
                        told.append(event.change["correlationid"])
                    if len(told) == MANY:
                        break
                assert telling is not None
                await telling
        return told

    with cutting(receiver.url, budgets(2)) as proxy:
        assert asyncio.run(scenario(proxy.url)) == names
        assert proxy.cuts >= 3


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_an_export_through_a_bad_connection_is_the_same(receiver: Receiver, key: str, form: Any) -> None:
    body = {**BODY, "destination": [{"msisdn": [f"4477008{n:05}" for n in range(900)]}], "callbackData": 'a "b"\r\nc'}
    with Client(receiver.url, key) as client:
        batch = client.send(body)["batch_id"]
        eventually(lambda: client.batch(batch)["states"] == {"accepted": 900})
        whole = b"".join(client.export_bytes({"batch_id": batch}, form))
    chance = random.Random(3)
    with (
        cutting(receiver.url, lambda: chance.randrange(1_500, 6_000)) as proxy,
        Client(proxy.url, key) as client,
    ):
        assert b"".join(client.export_bytes({"batch_id": batch}, form)) == whole
        assert proxy.cuts >= 1


def test_streams_and_waits_outlive_a_restart(receiver: Receiver, key: str, tmp_path: Any) -> None:
    port = str(free_port())
    told: list[str | None] = []
    outcomes: list[str] = []
    with Client(f"http://127.0.0.1:{port}", key) as client:
        with receiver_process(receiver.database, tmp_path, RECEIVER_PORT=port):
            identity = client.send(BODY)["messages"][0]["id"]
            stream = client.stream({"correlationid": ["before", "between", "after"]}, checkpoints=True)
            assert next(stream).name == "ready"

            def follow() -> None:
                changes = (event.change for event in stream if event.name == "change")
                told.extend(change["correlationid"] for change in islice(changes, 3))

            threads = [
                threading.Thread(target=follow),
                threading.Thread(target=lambda: outcomes.append(client.wait(identity, "delivered", 60).outcome)),
            ]
            for thread in threads:
                thread.start()
            observed(receiver, "before")
        observed(receiver, "between")
        with receiver_process(receiver.database, tmp_path, RECEIVER_PORT=port):
            observed(receiver, "after")
            delivered(receiver, identity)
            for thread in threads:
                thread.join(40)
            stream.close()
    assert told == ["before", "between", "after"]
    assert outcomes == ["reached"]


def test_an_id_may_be_any_text_that_a_header_holds(receiver: Receiver, key: str) -> None:
    with Client(receiver.url, key) as client:
        with pytest.raises(CannotResume, match="bad_event_id"):
            next(client.stream(last_event_id="не тот"))
        with pytest.raises(ReceiverError, match="no header"):
            next(client.stream(last_event_id="a\nb"))


def test_a_key_stands_in_no_log(receiver: Receiver, key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Client(receiver.url, key) as client, Client(receiver.url, key + "x") as stranger:
        list(client.find({"destination": "447700900001"}))
        with pytest.raises(ApiError):
            stranger.get("x")
    assert key not in json.dumps([record.getMessage() for record in caplog.records])
