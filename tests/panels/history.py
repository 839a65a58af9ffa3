"""The day in Postgres: rows as sending leaves them, then answers and receipts by the real apply, as time went on."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

from receiver.database.pool import Connection, connect
from receiver.ids import (
    MessageId,
    SubmissionId,
    TenantId,
    destination_digest,
    digest,
    first_id_at,
    leg_digest,
    new_id,
    transid_root,
)
from receiver.messages.lattice import Fact, State
from receiver.messages.store import apply_known
from receiver.messages.store import connect as file_keys
from receiver.messages.told import Feed, Told, told_by_us, transid_digest
from receiver.platform.apis import Api
from receiver.receipts import ledger
from receiver.receipts.apply import apply
from receiver.receipts.group import GROUP
from receiver.receipts.receipt import Source, read, reject
from tests.panels.day import MINUTE, MINUTES, Send
from tests.support import Database, run

COLUMNS = {
    "batch": "id tenant created_at first_id last_id message_count",
    "submission": "id tenant batch_id api created_at first_id last_id message_count sent_at answered_at",
    "message": "id tenant origin channel created_at batch_id submission_id destination destination_type"
    " destination_key correlationid correlation_key callback_data callback_key sender",
    "message_state": "id tenant origin channel country changed_at",
    "change": "at message_id version tenant origin channel country old_state new_state new_conflict",
}
COUNTED_WITHIN = 30.0  # seconds
STATUS = {State.DELIVERED: "Delivered", State.UNDELIVERED: "Undelivered", State.FAILED: "Failed"}


def write(database: Database, sends: Sequence[Send]) -> None:
    """Puts the day there, an hour at a time, and a body that nobody can read."""
    tenants = {name: database.tenant(name) for name in {send.tenant for send in sends}}

    async def work() -> None:
        connection = await connect(database.dsn, "tests", synchronous_commit="off")
        try:
            for _, hour in groupby(sends, lambda send: send.minute // 60):
                await _write_hour(connection, tenants, list(hour))
            end = sends[0].born + MINUTES * MINUTE
            body = reject(b"<xml/>", Source(tenants["shop"], None, end), "xml", None)
            await apply(connection, new_id(), end, Feed.PUSH, [], [body])
            books = await ledger.count(connection, COUNTED_WITHIN)
            assert books.difference == 0
            await ledger.keep(connection, books)
        finally:
            await connection.close()

    run(work())


async def _write_hour(connection: Connection, tenants: dict[str, TenantId], sends: list[Send]) -> None:
    ids = [_id_at(send.born) for send in sends]
    submissions = [SubmissionId(_id_at(send.born)) for send in sends]
    rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in COLUMNS}
    for send, one, submission in zip(sends, ids, submissions, strict=True):
        tenant, born = tenants[send.tenant], send.born
        rows["batch"].append((submission, tenant, born, one, one, 1))
        rows["submission"].append((
            submission, tenant, submission, Api.MESSAGING, born, one, one, 1, send.accepted, send.accepted,
        ))  # fmt: skip
        rows["message"].append((
            one, tenant, 1, send.channel, born, submission, submission, send.destination, "msisdn",
            destination_digest(send.destination), send.correlationid, digest(send.correlationid), send.callback,
            digest(send.callback), send.sender,
        ))  # fmt: skip
        rows["message_state"].append((one, tenant, 1, send.channel, send.country, born))
        rows["change"].append((born, one, 0, tenant, 1, send.channel, send.country, None, 0, False))
    last = max(send.ended + send.lag for send in sends)
    async with connection.transaction():
        for table, columns in COLUMNS.items():
            await connection.copy_records_to_table(table, records=rows[table], columns=columns.split())
        answers = [
            _answer(tenants[send.tenant], send, one, submission)
            for send, one, submission in zip(sends, ids, submissions, strict=True)
        ]
        await apply_known(connection, last, Feed.ANSWER, ids, answers)
        for name, tenant in tenants.items():
            keys = [
                (transid_digest(transid_root(send.transid)), leg_digest("", send.destination), one)
                for send, one in zip(sends, ids, strict=True)
                if send.tenant == name
            ]
            await file_keys(connection, last, tenant, keys)
    for receipts in (
        [_receipt(tenants[send.tenant], send, one, final) for send, one in zip(sends, ids, strict=True)]
        for final in (False, True)
    ):
        told = [one for reading in receipts for one in reading]
        for start in range(0, len(told), GROUP):
            await apply(connection, new_id(), last, Feed.PUSH, told[start : start + GROUP])


def _answer(tenant: TenantId, send: Send, message: MessageId, submission: SubmissionId) -> Told:
    return told_by_us(
        tenant=tenant,
        submission_id=submission,
        message_id=message,
        channel=send.channel,
        destination=send.destination,
        fact=Fact.ACCEPTED,
        fingerprint=new_id().bytes,
        at=send.accepted,
        status="queued",
        code="1001",
        code_class=0,
        description="Queued",
        transid=send.transid,
        raw=b"{}",
    )


def _receipt(tenant: TenantId, send: Send, message: MessageId, final: bool) -> list[Told]:
    """What the platform told by push; nothing where the last word never came."""
    if final and send.state is State.SUBMITTED:
        return []
    at = send.ended if final else send.submitted
    status = STATUS[send.state] if final else "Submitted"
    info = {
        "timeStamp": at.astimezone(UTC).isoformat(),
        "Description": status,
        "code": (send.code or "7500") if final else "7501",
        "deliveryChannel": send.channel.word,
        "destination": send.destination,
        "destinationType": "msisdn",
        "deliveryStatus": status,
    }
    told = {"deliveryInfo": info, "transid": send.transid, "correlationid": str(message), "callbackData": send.callback}
    reading = read(
        json.dumps({"deliveryInfoNotification": told}).encode(), Source(tenant, None, at + send.lag if final else at)
    )
    assert not reading.rejects
    return reading.receipts


def _id_at(moment: datetime) -> MessageId:
    """An id that was minted at `moment`."""
    return MessageId(UUID(int=first_id_at(moment).int + new_id().int % (1 << 76) | 7 << 76 | 2 << 62))
