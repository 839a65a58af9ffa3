"""A storm's two sides: what the sandbox says it told, and what the database holds."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from receiver.ids import TenantId
from receiver.messages.lattice import Channel, Fact, Fold, fold
from receiver.messages.told import Told
from receiver.receipts.receipt import Source, read
from tests.receipts.tellings import fold_of
from tests.support import PLATFORM_KEY, Database, environment_of, eventually, free_port, receiver_command

KINDS = ("receipts", "forged", "unreadable")


@dataclass
class Platform:
    """The hostile sandbox as a process of its own."""

    url: str
    http: httpx2.Client

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/sandbox/ledger").json()
        return found

    def tell(self, urls: list[str], messages: int, seed: int) -> dict[str, Any]:
        asked = {"notifyurl": urls, "messages": messages, "seed": seed}
        answer = self.http.post("/sandbox/tell", json=asked)
        assert answer.status_code == 202, answer.text
        planned: dict[str, Any] = answer.json()
        return planned

    def messages(self) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page = self.http.get("/sandbox/ledger/messages", params={"after": after, "limit": 1000}).json()
            yield from page["messages"]
            after = page["next"]


@contextlib.contextmanager
def hostile_platform(folder: Path, *, seed: int, speed: float) -> Iterator[Platform]:
    """`receiver sandbox --profile hostile`."""
    port = free_port()
    options = [f"--port={port}", f"--key={PLATFORM_KEY}", f"--speed={speed}", f"--seed={seed}", "--profile=hostile"]
    options.append("--tellers=128")  # the more wait at one time, the larger are the receivers' groups
    with (folder / "sandbox.log").open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "sandbox", *options], env=environment_of(), stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
            platform = Platform(url, http)
            eventually(lambda: _serves(http))
            yield platform
    finally:
        process.terminate()
        process.wait(25)


def _serves(http: httpx2.Client) -> bool:
    try:
        return http.get("/sandbox/ledger").status_code == 200
    except httpx2.HTTPError:
        return False


@dataclass
class Group:
    """The receipts that must have met in one message."""

    name: tuple[str, str]
    message: dict[str, Any]
    told: dict[bytes, tuple[Told, dict[str, Any]]] = field(default_factory=dict)
    """By fingerprint: as our reader reads it, and the sandbox's entry."""


def groups_of(message: dict[str, Any], issued: set[UUID], tenant: TenantId) -> list[Group]:
    """One group for an issued message; for an observed one a group for each subtid."""
    groups: dict[str, Group] = {}
    is_issued = _identity(message) in issued
    if is_issued:
        groups[""] = Group((message["transid"], ""), message)
    for entry in message["receipts"]:
        if entry["kind"] != "receipt":
            continue
        subtid = "" if is_issued else entry["subtid"]
        group = groups.setdefault(subtid, Group((message["transid"], subtid), message))
        reading = read(entry["told"].encode(), Source(tenant, None, datetime.now(UTC)))
        assert (len(reading.receipts), reading.rejects) == (1, []), entry["told"]
        told = reading.receipts[0]
        assert told.fingerprint not in group.told, entry["told"]
        group.told[told.fingerprint] = (told, entry)
    return list(groups.values())


def _identity(message: dict[str, Any]) -> UUID | None:
    try:
        return UUID(message["correlationid"])
    except ValueError:
        return None


@dataclass(frozen=True)
class Own:
    """A fact that no receipt told: the platform's answer."""

    fingerprint: bytes
    channel: Channel
    fact: Fact
    reason_key: bytes | None
    at: datetime
    leg: tuple[object, ...] | None = None


@dataclass
class Kept:
    """What the database holds of the live messages."""

    states: dict[UUID, asyncpg.Record]
    heard: dict[UUID, dict[bytes, datetime]] = field(default_factory=dict)
    """By message: the fingerprints of its receipts, and when each was first heard of."""
    facts: dict[UUID, list[Fact]] = field(default_factory=dict)
    """By message: what its receipts prove."""
    own: dict[UUID, list[Own]] = field(default_factory=dict)
    home: dict[bytes, list[UUID]] = field(default_factory=dict)
    """By fingerprint: the live messages that hold it."""


def kept(database: Database) -> Kept:
    """All live messages with their receipts."""
    found = Kept({row["id"]: row for row in database.fetch("select * from message_state where merged_into is null")})
    for row in database.fetch(
        "select message_id, fingerprint, feed, channel, fact, reason_key, received_at from receipt r"
        " where exists (select from message_state s where s.id = r.message_id and s.merged_into is null)"
    ):
        identity, fingerprint = row["message_id"], row["fingerprint"]
        if row["feed"] <= 4:
            found.heard.setdefault(identity, {})[fingerprint] = row["received_at"]
            found.home.setdefault(fingerprint, []).append(identity)
            found.facts.setdefault(identity, []).append(Fact(row["fact"]))
        else:
            own = Own(fingerprint, Channel(row["channel"]), Fact(row["fact"]), row["reason_key"], row["received_at"])
            found.own.setdefault(identity, []).append(own)
    return found


def believed(row: asyncpg.Record) -> tuple[Fold, int | None]:
    """What the database believes of a message, and the class of its reason."""
    return fold_of(row), row["reason_class"]


def truth(group: Group, heard: dict[bytes, datetime], own: list[Own]) -> tuple[Fold, int | None]:
    """The plain fold of what was told and is there. A receipt without a time of its own happened when it was heard."""
    told = [
        one._replace(received_at=heard[fingerprint])
        for fingerprint, (one, _) in group.told.items()
        if fingerprint in heard
    ]
    belief = fold([*told, *own])
    classes = {one.reason_key: one.reason_class for one in told}
    return belief, classes.get(belief.reason_key)
