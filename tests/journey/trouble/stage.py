"""What trouble plays on: a Postgres of its own, the way to it, a database, receivers, and messages that were sent."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx2

from tests.journey.course import lasting_port
from tests.journey.trouble.disks import SmallDisk
from tests.journey.trouble.own_postgres import OwnPostgres, clone
from tests.journey.trouble.proxy import Proxy
from tests.sending.platforms import Platform, recording_platform
from tests.support import Database, Receiver, eventually, receiver_process

ISSUED = 400  # messages that are sent before the trouble begins
EXIT_SECONDS = 20  # which a receiver has to end after a SIGTERM


class Service:
    """A receiver on one port, with one spool, however often it dies and is started again."""

    def __init__(self, stage: "Stage", spool: Path | None) -> None:
        self.port, self.spool = lasting_port(), spool
        self.url = f"http://127.0.0.1:{self.port}"
        self.ends: list[int] = []
        """How each of its processes ended: the exit code, or the signal with a minus."""
        self._stage, self._running = stage, ExitStack()
        self._receiver: Receiver | None = None

    @property
    def receiver(self) -> Receiver:
        assert self._receiver is not None
        return self._receiver

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.receiver.process

    @property
    def lives(self) -> bool:
        return self._receiver is not None and self.process.poll() is None

    def start(self) -> None:
        """Returns when it is ready for receipts."""
        settings = {"RECEIVER_PORT": str(self.port), "RECEIVER_SPOOL": str(self.spool or "off")}
        self._receiver = self._running.enter_context(
            receiver_process(self._stage.proxied, self._stage.folder, platform_url=self._stage.platform.url, **settings)
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._end(10)

    def terminate(self, times: int = 1, between: float = 0.0) -> None:
        """SIGTERM, and again after so many seconds; returns when it has ended."""
        for _ in range(times):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(between)
        self._end(EXIT_SECONDS)

    def _end(self, seconds: float) -> None:
        self.ends.append(self.process.wait(seconds))
        self._running.close()

    def close(self) -> None:
        self._running.close()

    @property
    def log(self) -> str:
        return self.receiver.log.read_text()


class Stage:
    """All of it. `services` are the receivers, those that live and those that don't."""

    def __init__(
        self, folder: Path, postgres: OwnPostgres, proxy: Proxy, platform: Platform, database: Database
    ) -> None:
        self.folder, self.postgres, self.proxy, self.platform = folder, postgres, proxy, platform
        self.database = database
        """Past the proxy."""
        way = f"postgresql://receiver:{postgres.password}@127.0.0.1:{proxy.port}/receiver?sslmode=disable"
        self.proxied = Database(way, database.name)
        self.postgres_disk: SmallDisk | None = None
        self.spool_disk: SmallDisk | None = None
        self.services: list[Service] = []
        self.issued: list[tuple[UUID, str]] = []
        """Messages of ours, each with its number."""

    def service(self, spool: str | None = "spool") -> Service:
        """A receiver, not yet started; those with one name of a spool share its folder. None: without a spool."""
        service = Service(self, self.folder / spool if spool else None)
        self.services.append(service)
        return service

    def living(self) -> list[Service]:
        return [service for service in self.services if service.lives]

    def notify_urls(self) -> Sequence[str]:
        """Of all receivers, dead or alive: a balancer does not know it at once."""
        return [service.receiver.notify_url() for service in self.services]

    def send(self) -> None:
        """Messages go out to the platform; returns when all have been answered."""
        key = self.database.key()
        with self.services[0].receiver.client(key) as http:
            numbers = [f"4477009{n:05}" for n in range(ISSUED)]
            body = {
                "deliverychannel": "sms",
                "channels": {"sms": {"text": "Your parcel is on its way"}},
                "destination": [{"msisdn": [number]} for number in numbers],
            }

            def accepted() -> httpx2.Response | None:
                answer = http.post("/v1/messages", json=body, headers={"idempotency-key": "the-only-batch"})
                assert answer.status_code in (202, 503), answer.text  # 503: it has not opened the database yet
                return answer if answer.status_code == 202 else None

            answer = eventually(accepted)
            ids = [UUID(message["id"]) for message in answer.json()["messages"]]
        eventually(lambda: self.database.value("select count(*) from outbox") == 0, every=0.05)
        self.issued = list(zip(ids, numbers, strict=True))


@contextmanager
def stage(folder: Path, postgres: OwnPostgres, name: str, seed: int) -> Iterator[Stage]:
    """A stage in `folder` with a new database of that name; all that runs is ended afterwards."""
    postgres.revive()
    database = clone(postgres, name)
    with Proxy(postgres.socket, seed).standing() as proxy, recording_platform() as platform:
        found = Stage(folder, postgres, proxy, platform, database)
        try:
            yield found
        finally:
            proxy.thaw()
            proxy.admit()
            postgres.thaw()
            for service in found.services:
                service.close()
