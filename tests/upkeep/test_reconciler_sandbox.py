"""The reconciler and the simulated platform, each written from the documents: what was lost is found."""

from typing import Any

import httpx2

from receiver.messages.lattice import State
from receiver.sandbox.scenario import MESSAGING, STATUS
from tests.sending.platforms import SandboxPlatform, sandbox_platform
from tests.support import PLATFORM_KEY, Database, eventually
from tests.upkeep.asking import Scene, play

FATES = {
    "447700900101": ("delivered", State.DELIVERED),
    "447700900102": ("undelivered", State.UNDELIVERED),
    "447700900103": ("failed", State.UNDELIVERED),  # the status has one word for both
    "447700900104": ("silent", State.SUBMITTED),
}


def script(platform: SandboxPlatform, *steps: dict[str, Any]) -> None:
    answer = httpx2.post(f"{platform.url}/sandbox/scenario", json={"step": steps}, trust_env=False)
    assert answer.status_code == 200, answer.text


def fates() -> list[dict[str, Any]]:
    return [{"path": MESSAGING, "from": n, "to": n, "fate": fate} for n, (fate, _) in enumerate(FATES.values(), 1)]


def handed_in(platform: SandboxPlatform, number: str) -> str:
    """A message that nobody is told of; the transid that the sandbox answers."""
    body = {"deliverychannel": "sms", "channels": {"sms": {"text": "x"}}, "destination": [{"msisdn": [number]}]}
    answer = httpx2.post(platform.url + MESSAGING, json=body, headers={"key": PLATFORM_KEY}, trust_env=False)
    return str(answer.json()["response"][0]["transid"])


def statuses(platform: SandboxPlatform, transid: str) -> list[str]:
    url = f"{platform.url}{STATUS}/{transid}"
    return [entry["status"] for entry in httpx2.get(url, headers={"key": PLATFORM_KEY}, trust_env=False).json()]


def test_a_scripted_7020_slows_it_down_and_then_everything_lost_is_found(database: Database) -> None:
    with sandbox_platform(speed=0.001) as platform:
        script(platform, *fates())
        transids = {number: handed_in(platform, number) for number in FATES}
        words = ["delivered", "failed", "failed", "sent"]
        eventually(lambda: [statuses(platform, transid)[0] for transid in transids.values()] == words)
        script(platform, {"path": STATUS, "from": 1, "to": 1, "code": "7020"},
               {"path": STATUS, "from": 3, "to": 3, "http": 429, "retry_after": 5})  # fmt: skip

        async def work(scene: Scene) -> None:
            messages = [(await scene.queued(transid, number))[0] for number, transid in transids.items()]
            await scene.awaits(*messages)
            reconciler = scene.reconciler()
            await scene.rounds(reconciler, 20, seconds=6)
            for message, (_, state) in zip(messages, FATES.values(), strict=True):
                row = await scene.state(message)
                assert row["state"] == state
                assert abs((row["accepted_at"] - row["changed_at"]).total_seconds()) < 600
            [told] = await scene.polled(messages[1])
            assert told["code"]
            assert told["reason_class"]
            assert await scene.ledger() == (4, 4, 0)
            calls = httpx2.get(f"{platform.url}/sandbox/scenario", trust_env=False).json()["step"]
            assert [step["met"] for step in calls] == [1, 1]

        play(database, work, platform)
