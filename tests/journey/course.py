"""How a storm goes: in waves messages are sent and others made up; in some a receiver is killed and restarted."""

import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Semaphore
from typing import Any
from uuid import UUID

import httpx2

from receiver.ids import TenantId
from receiver.platform.client import CONNECT_SECONDS
from tests.journey.storm import Group, Kept, Platform, groups_of, hostile_platform, kept
from tests.support import Database, Receiver, eventually, free_port, now, receiver_process

STORM_SECONDS = 90.0
CLIENTS = 3  # of each receiver
PLATFORM_TIMEOUT = 5  # seconds
LONGEST_CALL = PLATFORM_TIMEOUT + CONNECT_SECONDS  # seconds, of a living process
DEAD_AFTER = LONGEST_CALL + 2  # seconds, in which its answer is stored too


@dataclass(frozen=True)
class Course:
    """What a storm is made of."""

    name: str
    speed: float
    """What the platform's waits are multiplied by."""
    waves: int
    share: int
    """Submissions of each client in each wave."""
    made_up: int
    """Messages told in each wave beside those."""
    enough: int
    """Receipts that must have been told."""
    kills: int = 0
    """In so many of the first waves one receiver is killed."""


# A try after 60 s comes after 0.6 s.
CALM = Course("calm", speed=0.01, waves=1, share=25, made_up=8_400, enough=20_000)
# A try after 60 s comes after 3 s. A restart takes less, unless the machine is busy: so one death costs a receipt one
# try, and three leave one.
KILLS = Course("kills", speed=0.05, waves=3, share=12, made_up=400, enough=3_000, kills=3)


@dataclass
class Sent:
    """What the clients know of the messages that they sent."""

    batches: set[UUID] = field(default_factory=set)
    """Those that were answered 202."""
    unheard: set[str] = field(default_factory=set)
    """Of calls that were begun, and whose answer nobody heard, the callbackData."""


@dataclass
class Storm:
    """Both ledgers, after everything was told and both receivers have ended."""

    course: Course
    database: Database
    tenant: TenantId
    sent: Sent
    issued: dict[UUID, UUID]
    """All messages that were accepted, whether their sender heard of it or not, each with its submission."""
    ledger: dict[str, Any]
    groups: list[Group]
    kept: Kept
    intake: dict[str, int]
    killed_at: list[datetime]
    ends: list[int]
    """How each process ended: its exit code, or the signal with a minus."""
    logs: str


@contextmanager
def receivers(database: Database, folder: Path, platform: Platform) -> Iterator[Callable[[int], Receiver]]:
    """Starts a receiver on a port, again and again; all are ended at the end."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(
            receiver_process(
                database,
                folder,
                platform_url=platform.url,
                RECEIVER_PORT=str(port),
                RECEIVER_PLATFORM_TIMEOUT=str(PLATFORM_TIMEOUT),
            )
        )


class Clients:
    """Clients of one receiver, who send sms at one time, until each has sent its share or the receiver is dead."""

    def __init__(self, receiver: Receiver, key: str, seed: str, share: int) -> None:
        self._receiver, self._key, self._seed, self._share = receiver, key, seed, share
        self._accepted = Semaphore(0)
        self.sent = Sent()

    def begin(self, threads: ThreadPoolExecutor) -> list[Future[None]]:
        """All of them begin."""
        return [threads.submit(self._send, number) for number in range(CLIENTS)]

    def wait_for(self, accepted: int) -> None:
        """Returns at the moment when so many submissions of theirs have been accepted."""
        for _ in range(accepted):
            assert self._accepted.acquire(timeout=30)

    def _send(self, number: int) -> None:
        roll = random.Random(f"{self._seed}/{number}")
        with self._receiver.client(self._key) as http:
            for place in range(self._share):
                numbers = roll.sample(range(100, 1_000), roll.randint(1, 5))
                basket = f"basket {self._seed}/{number}/{place}"
                body = {
                    "deliverychannel": "sms",
                    "channels": {"sms": {"text": "Your parcel is on its way"}},
                    "destination": [{"msisdn": [f"447700900{last}"]} for last in numbers],
                    "callbackData": basket,
                }
                try:
                    answer = http.post("/v1/messages", json=body)
                except httpx2.ConnectError:
                    return  # the receiver is dead: nothing was sent to it
                except httpx2.TransportError:
                    self.sent.unheard.add(basket)  # it died meanwhile
                    return
                assert answer.status_code == 202, answer.text
                self.sent.batches.add(UUID(answer.json()["batch_id"]))
                self._accepted.release()


def run_storm(course: Course, database: Database, folder: Path, seed: int) -> Storm:
    """Runs the whole course; both ledgers."""
    with hostile_platform(folder, seed=seed, speed=course.speed) as platform:
        with receivers(database, folder, platform) as start:
            pair = Pair(start)
            sent = pair.weather(course, platform, database.key(), random.Random(f"{seed}/{course.name}"))
            eventually(lambda: _quiet(database, platform, course), STORM_SECONDS, 0.2)
        # all have ended, and have stored what they had in hand
        tenant = database.tenant()
        rows = database.fetch("select id, submission_id from message where origin = 1")
        issued = {row["id"]: row["submission_id"] for row in rows}
        return Storm(
            course=course,
            database=database,
            tenant=tenant,
            sent=sent,
            issued=issued,
            ledger=platform.ledger(),
            groups=[group for message in platform.messages() for group in groups_of(message, set(issued), tenant)],
            kept=kept(database),
            intake=_intake(database),
            killed_at=pair.killed_at,
            ends=[receiver.process.returncode for receiver in pair.started],
            logs=pair.victim.log.read_text() + pair.other.log.read_text(),
        )


class Pair:
    """Two receivers, one of which may be killed and comes back at once on the same port."""

    def __init__(self, start: Callable[[int], Receiver]) -> None:
        self._start = start
        self.victim, self.other = start(lasting_port()), start(free_port())
        self.started = [self.victim, self.other]
        self.killed_at: list[datetime] = []

    def weather(self, course: Course, platform: Platform, key: str, roll: random.Random) -> Sent:
        """Wave after wave, through kills and restarts; what the clients know of it."""
        sent = Sent()
        with ThreadPoolExecutor(2 * CLIENTS) as threads:
            for wave in range(course.waves):
                seed = roll.randrange(2**32)
                platform.tell([self.victim.notify_url(), self.other.notify_url()], course.made_up, seed)
                pair = {"victim": self.victim, "other": self.other}
                clients = [Clients(one, key, f"{seed}/{name}", course.share) for name, one in pair.items()]
                futures = [future for some in clients for future in some.begin(threads)]
                if wave < course.kills:
                    clients[0].wait_for(roll.randint(1, CLIENTS * course.share // 2))
                    self._kill()
                for future in futures:
                    future.result()
                for some in clients:
                    sent.batches |= some.sent.batches
                    sent.unheard |= some.sent.unheard
        return sent

    def _kill(self) -> None:
        self.victim.process.kill()
        self.killed_at.append(now())
        self.victim.process.wait(10)
        self.victim = self._start(int(self.victim.url.rpartition(":")[2]))
        self.started.append(self.victim)


# Of the dead, which nobody will call or settle before the end of their lease.
LEASES_END = """
update outbox o set lease_until = now() from submission s
 where s.id = o.submission_id and o.lease_until is not null
   and coalesce(s.sent_at, s.created_at) < now() - make_interval(secs => $1)
"""


def _quiet(database: Database, platform: Platform, course: Course) -> bool:
    """Whether nothing is left to be sent or told. Lets the time go by that the leases of the dead still last."""
    if course.kills:
        database.fetch(LEASES_END, DEAD_AFTER)
    if platform.ledger()["receipts"]["pending"]:
        return False
    return int(database.value("select count(*) from outbox")) == 0 and not platform.ledger()["receipts"]["pending"]


def _intake(database: Database) -> dict[str, int]:
    return dict(
        database.fetch(
            "select sum(received)::int as received, sum(applied)::int as applied, sum(duplicate)::int as duplicate,"
            " sum(quarantined)::int as quarantined, sum(forged)::int as forged, sum(late)::int as late from intake"
        )[0]
    )


def lasting_port() -> int:
    """A free port below those of outgoing connections: none of them may take it while its receiver is dead."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports, and none is free")
