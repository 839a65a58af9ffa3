"""What operators read of the quarantine and of a replay, as structs in our spelling."""

import base64
import json
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from receiver.receipts.quarantine import NEVER, place_of
from receiver.receipts.replay import Outcome, Replay

PREVIEW_BYTES = 400  # of a body in a list: a thousand of them are half a megabyte

# docs/errors.md has the same words, and what to do stands in docs/quarantine.md.
REASONS = {
    "empty": "The body is empty.",
    "xml": "The body is XML, which is not read. Switch the notification to JSON.",
    "not_json": "The body is not JSON.",
    "nested_too_deeply": "The JSON is nested too deeply.",
    "no_receipt": "It is JSON and holds no receipt: no deliveryInfo, or neither a status nor an id.",
    "too_many": "More than 10,000 receipts in one body.",
    "cut_off": "It stood in a file of receipts, torn: what is whole around it was taken.",
    "too_large": "It stood in a file of receipts and is over the limit: its beginning is kept.",
    "bad_row": "It is a row of CSV that does not fit the header of its file.",
    "reader_failed": "The reader broke on it: a fault of ours. Replay it with a newer version.",
    "database_refused": "Postgres refused this receipt: a fault of ours. Replay it with a newer version.",
    "forged": "It came in under the URL of one submission and claims a message of another.",
}


class Quarantined(msgspec.Struct, kw_only=True):
    """One body of the quarantine. It holds phone numbers."""

    id: str
    reason: str
    text: str
    detail: str | None
    first_at: datetime
    last_at: datetime
    told: int
    size: int
    submission_id: str | None
    headers: dict[str, Any]
    replayed_at: datetime | None
    replay_result: str
    body: str
    body_encoding: str
    body_is_cut: bool


class QuarantinePage(msgspec.Struct):
    """Bodies, newest first."""

    quarantine: list[Quarantined]
    next_cursor: str | None


class ReplayedReceipt(msgspec.Struct, kw_only=True):
    """One receipt of a replayed body, and what became of it, or would."""

    result: str
    detail: str | None
    channel: str | None
    status: str | None
    transid: str | None
    message: str | None
    message_id: str | None
    matched_by: str | None
    state_before: str | None
    state_after: str | None


class StateChange(msgspec.Struct):
    """One change of a message: null before is its birth, null after its merging into another."""

    message_id: str
    state_before: str | None
    state_after: str | None


class ReplayResult(msgspec.Struct, kw_only=True):
    """What a replay did, or would do."""

    id: str
    dry_run: bool
    believe: bool
    result: str
    receipts: list[ReplayedReceipt]
    changes: list[StateChange]


QUARANTINE_ID = {"type": "string", "pattern": "^[0-9]{8}-[0-9a-f]{32}$"}
EXAMPLE = {
    "id": "20261116-65e12a1bb4a1b0d1b1d1f1fd0a2cbc0f",
    "reason": "xml",
    "text": REASONS["xml"],
    "detail": None,
    "first_at": "2026-11-21T10:31:02.118340Z",
    "last_at": "2026-11-21T10:34:08.551217Z",
    "told": 4,
    "size": 512,
    "submission_id": None,
    "headers": {"content-type": "application/xml", "content-length": "512"},
    "replayed_at": None,
    "replay_result": NEVER,
    "body": "<deliveryInfoNotification>…",
    "body_encoding": "text",
    "body_is_cut": True,
}
_MESSAGE_ID = "01a1fda7-9714-779d-a3fc-b1fa03eda994"
REPLAY_EXAMPLE = {
    "id": EXAMPLE["id"],
    "dry_run": True,
    "believe": False,
    "result": "applied",
    "receipts": [
        {
            "result": "applied",
            "detail": None,
            "channel": "sms",
            "status": "Delivered",
            "transid": "3f09295d-7c1e-4a52-9d0e-2f6c3b8a1d44",
            "message": "issued",
            "message_id": _MESSAGE_ID,
            "matched_by": "correlationid",
            "state_before": "submitted",
            "state_after": "delivered",
        }
    ],
    "changes": [{"message_id": _MESSAGE_ID, "state_before": "submitted", "state_after": "delivered"}],
}


def quarantined(row: asyncpg.Record) -> Quarantined:
    """A row as clients read it; its body may be cut already."""
    body, encoding = text_of(row["body"], cut=len(row["body"]) < row["size"])
    return Quarantined(
        id=str(place_of(row)),
        reason=row["reason"],
        text=REASONS.get(row["reason"], row["reason"]),
        detail=row["detail"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        told=row["told"],
        size=row["size"],
        submission_id=str(row["submission_id"]) if row["submission_id"] else None,
        headers=json.loads(row["headers"]),
        replayed_at=row["replayed_at"],
        replay_result=row["replay_result"] or NEVER,
        body=body,
        body_encoding=encoding,
        body_is_cut=len(row["body"]) < row["size"],
    )


def text_of(body: bytes, *, cut: bool) -> tuple[str, str]:
    """A body as text, or in base64 where it is not UTF-8. A cut one may end within a character."""
    for end in range(len(body), max(len(body) - 4, -1) if cut else len(body) - 1, -1):
        try:
            return body[:end].decode(), "text"
        except UnicodeDecodeError:
            continue
    return base64.b64encode(body).decode(), "base64"


def replay_result(replay: Replay) -> ReplayResult:
    """A replay as clients read it."""
    return ReplayResult(
        id=str(replay.place),
        dry_run=replay.dry_run,
        believe=replay.believe,
        result=replay.result,
        receipts=[_receipt(outcome) for outcome in replay.outcomes],
        changes=[
            StateChange(
                str(c.message_id), c.old.word if c.old is not None else None, c.new.word if c.new is not None else None
            )
            for c in replay.changes
        ],
    )


def _receipt(outcome: Outcome) -> ReplayedReceipt:
    told = outcome.told
    return ReplayedReceipt(
        result=outcome.result,
        detail=outcome.detail,
        channel=told.channel.word if told else None,
        status=told.status if told else None,
        transid=told.transid if told else None,
        message=outcome.message,
        message_id=str(outcome.message_id) if outcome.message_id else None,
        matched_by=outcome.matched_by,
        state_before=outcome.state_before.word if outcome.state_before is not None else None,
        state_after=outcome.state_after.word if outcome.state_after is not None else None,
    )
