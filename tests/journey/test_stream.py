"""A client that loses its stream again and again, at processes that die, sees each change once."""

import os
import random
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2

from tests.queries.changes import in_order
from tests.queries.streams import Event, parse
from tests.receipts.tellings import body
from tests.support import Database, Receiver, eventually, free_port, receiver_process

DROPS = 100
STATUSES = ("Submitted", "Delivered", "Read")


def receipt(number: int, status: str) -> bytes:
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": f"44770090{number % 50:04d}"}
    return body(info, f"stream-{number}")


def tell(receivers: list[Receiver], over: threading.Event, told: list[int]) -> None:
    """Receipts of ever new messages at the notify door, some states of each, at whichever process answers."""
    dice, number = random.Random(7), 0
    with httpx2.Client(trust_env=False, timeout=20) as client:
        while not over.is_set():
            number += 1
            for status in dice.sample(STATUSES, 2):
                for _ in range(50):
                    receiver = dice.choice(receivers)
                    try:
                        if client.post(receiver.notify_url(), content=receipt(number, status)).status_code == 200:
                            told.append(number)
                            break
                    except httpx2.HTTPError:
                        time.sleep(0.02)
            time.sleep(0.01)


def read_for(receiver: Receiver, key: str, last: str | None, seconds: float, enough: int | None = None) -> list[Event]:
    """The whole events of one stream, which is dropped after so many seconds, wherever it is, or with `enough`."""
    text = ""
    headers = {"authorization": f"Bearer {key}"} | ({"last-event-id": last} if last else {})
    deadline = time.monotonic() + seconds
    try:
        with (
            httpx2.Client(base_url=receiver.url, trust_env=False, timeout=max(1.0, seconds / 4)) as client,
            client.stream("GET", "/v1/stream", headers=headers) as stream,
        ):
            if stream.status_code == 200:
                for piece in stream.iter_bytes():
                    text += piece.decode("latin-1")
                    found = parse(text[: text.rfind("\n\n") + 2])
                    is_enough = enough is not None and found and len(changes(found)) >= enough
                    if is_enough or time.monotonic() > deadline:
                        break
            else:
                assert stream.status_code == 503, stream.read()
    except httpx2.HTTPError:
        pass  # it died, or nothing came for a while
    return parse(text[: text.rfind("\n\n") + 2]) if "\n\n" in text else []


def changes(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.data["id"], event.data["version"]) for event in events if event.name == "change"]


def test_a_client_that_drops_its_stream_a_hundred_times_sees_each_change_once(
    database: Database, tmp_path: Path
) -> None:
    dice, key = random.Random(11), database.key("read")
    port = str(free_port())
    over, told = threading.Event(), list[int]()
    with ExitStack() as stack:
        steady = stack.enter_context(receiver_process(database, tmp_path))
        mortal = stack.enter_context(receiver_process(database, tmp_path, RECEIVER_PORT=port))
        receivers = [steady, mortal]
        first = read_for(steady, key, None, 10, enough=0)
        assert first[0].name == "ready"
        last, events = first[0].id, list[Event]()
        telling = threading.Thread(target=tell, args=(receivers, over, told))
        telling.start()
        try:
            for drop in range(DROPS):
                if drop == 40:
                    os.kill(mortal.process.pid, signal.SIGKILL)
                if drop == 60:
                    receivers[1] = stack.enter_context(receiver_process(database, tmp_path, RECEIVER_PORT=port))
                found = read_for(dice.choice(receivers), key, last, dice.uniform(0.02, 0.25))
                events += found
                last = next((event.id for event in reversed(found) if event.id), last)
        finally:
            over.set()
            telling.join()
        with steady.client() as client:
            for number in range(5):  # nobody listens
                assert client.post(steady.notify_url(), content=receipt(100_000 + number, "Read")).status_code == 200
        eventually(lambda: database.value("select count(*) from receipt") >= len(set(told)) + 5)
        seen = changes(events)
        count = int(database.value("select count(*) from change"))
        assert 0 < len(seen) < count, "some came, some are still to come"
        events += read_for(receivers[1], key, last, 30, enough=count - len(seen))
        seen = changes(events)
        assert len(seen) == count
        assert in_order(seen)
        assert read_for(steady, key, last, 1.5)[0].name == "ready"
        believed = {event.data["id"]: event.data["state"] for event in events if event.name == "change"}
        words = {10: "accepted", 20: "submitted", 60: "delivered", 70: "read"}
        rows = database.fetch("select id, state from message_state")
        assert believed == {str(row["id"]): words[row["state"]] for row in rows}


def test_a_process_that_ends_says_so_and_leaves_in_time(database: Database, tmp_path: Path) -> None:
    key = database.key("read")
    with receiver_process(database, tmp_path) as receiver:
        found: list[Event] = []
        reading = threading.Thread(target=lambda: found.extend(read_for(receiver, key, None, 20)))
        with receiver.client(key) as client, client.stream("GET", "/v1/stream", timeout=20) as stream:
            pieces = stream.iter_bytes()
            assert b"event: ready" in next(pieces)
            reading.start()
            text = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
            assert "receiver_streams 1.0" in text or "receiver_streams 2.0" in text
            began = time.monotonic()
            receiver.process.send_signal(signal.SIGTERM)
            rest = b"".join(pieces).decode()
            assert parse(rest)[-1].data["reason"] == "draining"
            assert receiver.process.wait(20) == 0
            assert time.monotonic() - began < 8
        reading.join()
        assert "Traceback" not in receiver.log.read_text()
        assert "ASGI callable" not in receiver.log.read_text()


def test_a_client_that_waits_hears_of_a_change_made_through_another_process(database: Database, tmp_path: Path) -> None:
    key = database.key("read")
    with ExitStack() as stack:
        asked = stack.enter_context(receiver_process(database, tmp_path, RECEIVER_ROLES="api"))
        told = stack.enter_context(receiver_process(database, tmp_path, RECEIVER_ROLES="notify,upkeep"))
        with httpx2.Client(trust_env=False, timeout=20) as platform, asked.client(key) as client:
            assert platform.post(told.notify_url(), content=receipt(1, "Submitted")).status_code == 200
            message = client.get("/v1/messages").json()["messages"][0]["id"]
            answers: list[tuple[str, float]] = []

            def wait() -> None:
                answer = client.get(f"/v1/messages/{message}", params={"wait": "15", "until": "delivered"})
                answers.append((answer.json()["state"], time.monotonic()))

            waiting = threading.Thread(target=wait)
            waiting.start()
            eventually(lambda: "receiver_waiters 1.0" in httpx2.get(f"{asked.url}/metrics", trust_env=False).text)
            began = time.monotonic()
            assert platform.post(told.notify_url(), content=receipt(1, "Delivered")).status_code == 200
            waiting.join()
            assert answers[0][0] == "delivered"
            assert answers[0][1] - began < 3
