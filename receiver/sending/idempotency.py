"""The Idempotency-Key of a send door: for a day, two calls with one key are one (docs/decisions/0011-idempotency.md).

A door reads the key (`key_of`), and asks (`earlier`) what was answered before, inside the transaction that accepts.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from starlette.requests import Request

from receiver.database.pool import Connection
from receiver.ids import BatchId, Digest, TenantId, digest, first_id_at
from receiver.openapi import Parameter
from receiver.web import FieldError, Problem

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
KEPT = timedelta(hours=24)

LOCK = "select pg_advisory_xact_lock($1)"
# The bound on the id leaves the partitions of a day to be looked at.
FIND = """
select id, first_id, last_id, request_digest, answer_status, answer from batch
 where idempotency_key = $1 and id >= $2 order by id limit 1
"""
MESSAGES = """
select id, destination, correlationid from message
 where batch_id = $1 and id between $2 and $3 and resend_of is null order by id
"""
KEEP_ANSWER = "update batch set answer_status = $2, answer = $3 where id = $1"
KEPT_ANSWER = "select answer_status, answer from batch where id = $1"

PARAMETER = Parameter(
    HEADER,
    "1 to 255 visible ASCII characters. The same key and body within 24 hours answer as the first time, with the header"
    " Idempotency-Replayed: true; nothing is sent again.",
    "header",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)
_GOOD = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True)
class IdempotencyKey:
    """What is stored of a key and of the request that came with it: 16 bytes each."""

    key: Digest
    request: Digest

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """As `outbox.accept` writes it into the batch."""
        return self.key, self.request


@dataclass(frozen=True)
class Earlier:
    """The batch that a key has made: its messages as (id, destination, correlationid), in the order of the request.

    `answer_status` and `answer` are of the doors that keep their answer's bytes.
    """

    batch_id: BatchId
    messages: list[tuple[UUID, str, str | None]]
    answer_status: int | None
    answer: bytes | None


def key_of(request: Request, tenant: TenantId, door: str, body: bytes) -> IdempotencyKey | None:
    """The key of this call to `door`, if it bears one. Raises Problem 400 for what can't be a key."""
    told = request.headers.getlist(HEADER)
    if not told:
        return None
    if len(told) > 1 or not _GOOD.fullmatch(told[0]):
        detail = "it takes one value of 1 to 255 visible ASCII characters"
        errors = [FieldError(HEADER, "bad_idempotency_key", detail)]
        raise Problem(400, "bad_idempotency_key", "The Idempotency-Key is none.", errors)
    asked = hashlib.blake2b(door.encode() + b"\0" + body, digest_size=16).digest()
    return IdempotencyKey(digest(f"idempotency\0{tenant}\0{told[0]}"), Digest(asked))


async def earlier(connection: Connection, key: IdempotencyKey, now: datetime) -> Earlier | None:
    """What this key made within the last day; nothing if it is new, and then it is ours until the transaction ends.

    Must be called in the transaction that accepts, before it writes: another call with the key waits for its end.
    Raises Problem 409 if the key came with another request.
    """
    await connection.execute(LOCK, int.from_bytes(key.key[:8], "big", signed=True))
    batch = await connection.fetchrow(FIND, key.key, first_id_at(now - KEPT))
    if batch is None:
        return None
    if batch["request_digest"] != key.request:
        raise Problem(409, "idempotency_conflict", "This Idempotency-Key came with another request before.")
    rows = await connection.fetch(MESSAGES, batch["id"], batch["first_id"], batch["last_id"])
    messages = [(row["id"], row["destination"], row["correlationid"]) for row in rows]
    return Earlier(BatchId(batch["id"]), messages, batch["answer_status"], batch["answer"])


async def keep_answer(connection: Connection, batch_id: BatchId, status: int, body: bytes) -> None:
    """Keeps the bytes of an answer that can't be made again from the batch, to be replayed."""
    await connection.execute(KEEP_ANSWER, batch_id, status, body)


async def kept_answer(connection: Connection, batch_id: BatchId) -> tuple[int | None, bytes | None]:
    """HTTP status and bytes of the answer that was kept; nothing while the call is under way."""
    row = await connection.fetchrow(KEPT_ANSWER, batch_id)
    return (row["answer_status"], row["answer"]) if row is not None else (None, None)
