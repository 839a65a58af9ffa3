"""What the walks over every door share: a receiver in which one tenant has everything, and calls to all its doors."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_plus

import httpx2

from receiver.app import OPERATIONS
from receiver.openapi import Operation
from tests.sending.platforms import receipt, recording_platform, tell
from tests.support import Database, Receiver, eventually, receiver_process

GUARDED = [operation for operation in OPERATIONS if operation.scope]
PARAMETER = re.compile(r"\{(\w+)\}")
EVENT_ID = re.compile(r"^id: ?(\S+)$", re.MULTILINE)
OWNER, STRANGER = "default", "stranger"
NUMBER, OBSERVED_NUMBER = "447700911711", "447700911712"
MARKS = ("mark-text-71", "mark-correlation-71", "mark-callback-71", "mark-transid-71", "mark-quarantine-71")

HEAD_SECONDS = 10.0  # for the head of an answer
BODY_SECONDS = 1.0  # of one that does not end; what is of the past is told at once
MOST_BYTES = 1 << 20


def is_endless(headers: httpx2.Headers) -> bool:
    """Whether an answer is a stream of events."""
    return headers.get("content-type", "").startswith("text/event-stream")


@dataclass(frozen=True)
class Answer:
    """An answer, or as much of one as came while it was waited for."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def shows(self, marks: set[str], asked: str) -> set[str]:
        """Those of `marks` that it holds and that the caller did not say himself."""
        text = self.body.decode("utf-8", "replace").lower() + str(dict(self.headers)).lower()
        return {mark for mark in marks if mark.lower() in text and mark.lower() not in asked.lower()}


@dataclass
class World:
    """A running receiver; the tenant OWNER has everything, the tenant STRANGER nothing but keys."""

    receiver: Receiver
    client: httpx2.Client
    ids: dict[str, str] = field(default_factory=dict)
    """What the owner's things are named by, and what he may ask by."""

    @property
    def marks(self) -> set[str]:
        """What nobody else may see."""
        return {*MARKS, NUMBER, OBSERVED_NUMBER, *(text for name, text in self.ids.items() if "event" not in name)}

    def call(self, method: str, path: str, headers: dict[str, str], query: dict[str, str] | None = None) -> Answer:
        """Calls a door, again while it has no room; reads an endless answer for a second."""
        until = time.monotonic() + HEAD_SECONDS
        while True:
            with self.client.stream(method, path, headers=headers, params=query) as answer:
                if not is_endless(answer.headers):
                    body = _whole(answer)
                    if answer.status_code != 503 or time.monotonic() > until:
                        return Answer(answer.status_code, answer.headers, body)
                    time.sleep(0.1)
                    continue
            break
        # Asked again with a short patience: the answer that was open has none.
        body, until = b"", time.monotonic() + BODY_SECONDS
        short = httpx2.Timeout(HEAD_SECONDS, read=BODY_SECONDS)
        with (
            contextlib.suppress(httpx2.ReadTimeout),
            self.client.stream(method, path, headers=headers, params=query, timeout=short) as again,
        ):
            for part in again.iter_raw():
                body += part
                if time.monotonic() > until or len(body) > MOST_BYTES:
                    break
        return Answer(answer.status_code, answer.headers, body)

    def paths(self, operation: Operation) -> list[str]:
        """The path of a door, once for each of the owner's ids where it takes one."""
        if not PARAMETER.search(operation.path):
            return [operation.path]
        return [PARAMETER.sub(identity, operation.path) for identity in self.ids.values()]


def _whole(answer: httpx2.Response) -> bytes:
    until, body = time.monotonic() + HEAD_SECONDS, b""
    for part in answer.iter_bytes():
        body += part
        assert time.monotonic() < until, "it does not end, and is no stream of events"
        if len(body) > MOST_BYTES:
            break
    return body


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"authorization": f"Bearer {key}"}


def said(path: str, query: dict[str, str] | None) -> str:
    """All that a caller says in a URL."""
    return unquote_plus(path) + " " + " ".join(f"{name} {value}" for name, value in (query or {}).items())


@contextlib.contextmanager
def world(database: Database, folder: Path) -> Iterator[World]:
    """The receiver, with one of everything in it."""
    config = folder / "tenants.toml"
    config.write_text(f'[tenant.{STRANGER}]\nplatform_key = "a key of the stranger"\n')
    with (
        recording_platform() as platform,
        receiver_process(
            database, folder, platform_url=platform.url, RECEIVER_CONFIG=str(config), RECEIVER_KEEP_CONTENT="yes"
        ) as receiver,
        httpx2.Client(base_url=receiver.url, trust_env=False, timeout=HEAD_SECONDS) as client,
    ):
        made = World(receiver, client)
        _fill(made, receiver)
        yield made


def _fill(made: World, receiver: Receiver) -> None:
    key = receiver.database.key(tenant=OWNER)
    for operation in GUARDED:  # from its id on, everything is told again
        if "text/event-stream" in str(operation.answers.get(200)):
            begun = made.call("GET", operation.path, bearer(key))
            made.ids[f"event of {operation.path}"] = EVENT_ID.findall(begun.body.decode())[0]
    with receiver.client(key) as owner:
        sms = {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": MARKS[0], "senderid": "PARCEL"}},
            "destination": [{"msisdn": [NUMBER], "correlationid": MARKS[1]}],
            "callbackData": MARKS[2],
        }
        sent = owner.post("/v1/messages", json=sms).json()
        made.ids |= {"batch": sent["batch_id"], "message": sent["messages"][0]["id"], "correlationid": MARKS[1]}
        told = receipt("Delivered", "7200", OBSERVED_NUMBER, transid=MARKS[3])
        assert tell(receiver.notify_url(), told) == 200
        assert httpx2.post(receiver.notify_url(), content=MARKS[4].encode(), trust_env=False).status_code == 200
        imported = owner.post("/v1/imports", content=json.dumps([told]).encode())
        assert imported.status_code == 200, imported.text
        made.ids |= {"import": imported.json()["import_id"], "observed transid": MARKS[3], "number": NUMBER}

        transid = "select transid from message_state where id = $1"
        made.ids["transid"] = eventually(lambda: receiver.database.value(transid, made.ids["message"]))
        observed = "select id from message where id <> $1"
        made.ids["observed"] = str(receiver.database.value(observed, made.ids["message"]))
        made.ids["quarantined"] = eventually(lambda: owner.get("/v1/quarantine").json()["quarantine"])[0]["id"]
        made.ids["cursor"] = owner.get("/v1/messages", params={"limit": "1"}).json()["next_cursor"]
    submission = receiver.database.value("select submission_id from message where submission_id is not null")
    made.ids["submission"] = str(submission)
