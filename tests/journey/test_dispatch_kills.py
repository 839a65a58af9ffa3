"""Senders are killed in mid-stream, again and again: nothing is lost, nothing is sent twice, all doubt has a name."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import httpx2

from receiver.messages.lattice import State
from tests.sending.platforms import Call, Platform, Reply, queued, receipt, recording_platform, refused, tell
from tests.support import Database, Receiver, eventually, receiver_process

BATCHES, ENTRIES, A_CALL = 3, 1_000, 3
MESSAGES = BATCHES * ENTRIES
CALLS = BATCHES * -(-ENTRIES // A_CALL)
KILLS = 6
AT_ONCE = 16
SETTINGS = {
    "RECEIVER_ENTRIES_PER_CALL": str(A_CALL),
    "RECEIVER_PLATFORM_TIMEOUT": "1",
    "RECEIVER_LEASE": "3",
    "RECEIVER_DISPATCH_CONCURRENCY": str(AT_ONCE),
}


class Taking:
    """Answers after a moment; now and then it refuses a call for the time being, and then has not taken it."""

    def __init__(self, seed: int) -> None:
        self._roll, self._lock = random.Random(seed), threading.Lock()
        self.taken: Counter[str] = Counter()
        self.notifyurls: dict[str, tuple[str, str]] = {}

    def __call__(self, call: Call) -> Reply:
        with self._lock:
            luck, seconds = self._roll.random(), self._roll.uniform(0.01, 0.1)
            if luck >= 0.03:
                self.taken.update(call.ids)
                self.notifyurls |= {i: (call.body["notifyurl"], n) for i, n in zip(call.ids, call.numbers, strict=True)}
        time.sleep(seconds)
        return refused("7006") if luck < 0.03 else queued(str(uuid4()))


def start(stack: contextlib.ExitStack, database: Database, folder: Path, platform: Platform) -> Receiver:
    return stack.enter_context(receiver_process(database, folder, platform_url=platform.url, **SETTINGS))


def hand_in(receiver: Receiver, key: str) -> set[str]:
    """All messages, in a few batches; their ids."""
    ids: set[str] = set()
    with receiver.client(key) as api:
        for batch in range(BATCHES):
            numbers = [str(447700000000 + batch * ENTRIES + n) for n in range(ENTRIES)]
            body = {
                "deliverychannel": "sms",
                "channels": {"sms": {"text": "Your parcel is on its way"}},
                "destination": [{"msisdn": [number]} for number in numbers],
            }
            answer = api.post("/v1/messages", json=body)
            assert answer.status_code == 202, answer.text
            ids |= {message["id"] for message in answer.json()["messages"]}
    return ids


def uncertain_ones(api: httpx2.Client) -> set[str]:
    """The ids that GET /v1/messages?state=uncertain names, page by page."""
    found: set[str] = set()
    parameters = {"state": "uncertain", "limit": "100"}
    while True:
        page = api.get("/v1/messages", params=parameters).json()
        found |= {message["id"] for message in page["messages"]}
        if not page["next_cursor"]:
            return found
        parameters["cursor"] = page["next_cursor"]


def test_senders_that_are_killed_lose_nothing_and_send_nothing_twice(database: Database, tmp_path: Path) -> None:
    roll = random.Random(20)
    taking = Taking(seed=21)
    with recording_platform() as platform, contextlib.ExitStack() as stack:
        platform.reply = taking
        running = [start(stack, database, tmp_path, platform) for _ in range(2)]
        key = database.key()
        ids = hand_in(running[0], key)
        assert len(ids) == MESSAGES
        for number, moment in enumerate(sorted(roll.sample(range(20, CALLS * 3 // 4), KILLS))):
            eventually(lambda moment=moment: len(taking.taken) >= moment * A_CALL, every=0.002)  # type: ignore[misc]
            victim = running.pop(0)
            time.sleep(roll.random() / 50)
            os.kill(victim.process.pid, signal.SIGKILL)
            assert victim.process.wait(10) == -signal.SIGKILL, f"kill {number}"
            running.append(start(stack, database, tmp_path, platform))
        eventually(lambda: database.value("select count(*) from outbox") == 0, seconds=30, every=0.1)

        states = {str(r["id"]): State(r["state"]) for r in database.fetch("select id, state from message_state")}
        assert set(states) == ids
        assert [i for i, times in taking.taken.items() if times > 1] == [], "sent twice"
        accepted = {i for i, state in states.items() if state is State.ACCEPTED}
        uncertain = {i for i, state in states.items() if state is State.UNCERTAIN}
        assert accepted | uncertain == ids, "nothing is lost"
        assert accepted <= set(taking.taken), "what is accepted was sent"
        # at most what was under way, or marked to go next
        assert 0 < len(uncertain) <= KILLS * 2 * AT_ONCE * A_CALL
        with running[0].client(key) as api:
            assert uncertain_ones(api) == uncertain
        resolved = [i for i in sorted(uncertain) if i in taking.taken][:20]
        assert resolved
        for identity in resolved:
            url, number_told = taking.notifyurls[identity]
            alive = f"{running[0].url}/notify/{url.rpartition('/')[2]}"
            assert tell(alive, receipt("Delivered", "7500", number_told, transid=f"t-{identity}")) == 200
        with running[0].client(key) as api:
            assert uncertain_ones(api) == uncertain - set(resolved)
