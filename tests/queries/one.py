"""A receiver beside a platform that records, and messages of it that are asked for one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.sending.platforms import Call, Platform, Reply, queued, receipt, recording_platform, refused, sms, tell
from tests.support import Receiver, cloned, eventually, receiver_process

NUMBERS = (number for n in range(100_000) if not (number := str(447700900000 + n)).endswith("9"))


@dataclass
class World:
    """A receiver, clients of two tenants, and a platform that refuses numbers that end in 9."""

    receiver: Receiver
    platform: Platform
    api: httpx2.Client
    stranger: httpx2.Client
    key: str

    def send(self, count: int = 1, **more: Any) -> tuple[str, list[str]]:
        """Sends to so many numbers: the batch, and the messages once the platform has answered."""
        numbers = [next(NUMBERS) for _ in range(count)]
        return self.send_to(*numbers, **more)

    def send_to(self, *numbers: str, **more: Any) -> tuple[str, list[str]]:
        answer = self.api.post("/v1/messages", json=sms(*numbers, **more))
        assert answer.status_code == 202, answer.text
        ids = [message["id"] for message in answer.json()["messages"]]
        eventually(lambda: self.get(ids[-1])["attempts"])
        return answer.json()["batch_id"], ids

    def get(self, identity: str, **parameters: Any) -> dict[str, Any]:
        """The message as JSON."""
        answer = self.api.get(f"/v1/messages/{identity}", params=parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def explain(self, identity: str) -> dict[str, Any]:
        answer = self.api.get(f"/v1/messages/{identity}/explain")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def told(self, identity: str, status: str, code: str = "", **more: Any) -> None:
        """The platform tells a receipt of a message of ours."""
        number = more.pop("number", None) or self.get(identity)["destination"]
        assert tell(self.receiver.notify_url(), receipt(status, code, number, correlationid=identity, **more)) == 200


def _reply(call: Call) -> Reply:
    if call.numbers[0].endswith("9"):
        return refused("7004", "Invalid parameters")
    return queued(f"T-{call.numbers[0]}")


@contextmanager
def world(
    postgres: str, template: str, folder: Path, name: str, reply: Callable[[Call], Reply] = _reply, **environment: str
) -> Iterator[World]:
    """A world with a database of its own."""
    config = folder / "receiver.toml"
    with recording_platform() as platform:
        platform.reply = reply
        config.write_text(f"[tenant.other]\nplatform_url = '{platform.url}'\nplatform_key = 'x'\n")
        with (
            cloned(postgres, template, name) as database,
            receiver_process(
                database, folder, platform_url=platform.url, RECEIVER_CONFIG=str(config), **environment
            ) as receiver,
            receiver.client(key := database.key()) as api,
            receiver.client(database.key(tenant="other")) as stranger,
        ):
            yield World(receiver, platform, api, stranger, key)
