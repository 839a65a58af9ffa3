"""A person in every place that may name one, and where a person is still named."""

import json
import secrets
from urllib.parse import quote
from uuid import UUID

from receiver.database.pool import Connection
from receiver.ids import MessageId, SubmissionId, TenantId, destination_digest, digest, leg_digest, new_id
from receiver.messages.lattice import Channel
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.receipts.apply import apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.quarantining import put
from tests.receipts.tellings import told_of
from tests.support import now

TEXTS = {"text", "bytea", "jsonb", "_text", "varchar"}


def body(number: str, transid: str, status: str = "Delivered", correlationid: str = "", subtid: str = "") -> bytes:
    """A receipt that names its recipient wherever one can."""
    info = {
        "deliveryChannel": "SMS", "deliveryStatus": status, "destination": number, "code": "7101",
        "description": f"to {number} on {subtid}", "deviceid": f"device of {number}",
    }  # fmt: skip
    outer = {"deliveryInfo": info, "transid": transid, "correlationid": correlationid, "callbackData": f"cb {number}",
             "subtid": subtid}  # fmt: skip
    return json.dumps({"deliveryInfoNotification": outer}).encode()


async def tell(connection: Connection, tenant: TenantId, *bodies: bytes, submission: UUID | None = None) -> list[str]:
    group = [told_of(raw, tenant, SubmissionId(submission) if submission else None) for raw in bodies]
    return (await apply(connection, new_id(), now(), Feed.PUSH, group)).results


async def send(
    connection: Connection, tenant: TenantId, *numbers: str, content: bytes = b"{}", waits: bool = False
) -> tuple[list[MessageId], SubmissionId]:
    """A call that was made and answered, unless it waits; its content was kept."""
    asked = tuple(Asked("msisdn", f"+{n}", n, f"order of {n}") for n in numbers)
    url = f"https://client.example/?to=%2B{numbers[0]}"
    request = Request(Api.MESSAGING, Channel.SMS, content, asked, f"cb {numbers[0]}", "Shop", None, 2, None, url)
    keys = digest(f"key {numbers[0]}"), digest(f"body {numbers[0]}")
    accepted = await outbox.accept(connection, tenant, request, now(), idempotency=keys)
    [submission] = accepted.submissions
    if not waits:
        await connection.execute("delete from outbox where submission_id = $1", submission)
        await connection.execute(
            "insert into attempt (submission_id, number, at, outcome, description)"
            " values ($1, 1, now(), 'accepted', $2)",
            submission, f"queued for {numbers[0]}",
        )  # fmt: skip
        answer = json.dumps({"destination": numbers[0]}).encode()
        await connection.execute("update batch set answer_status = 200, answer = $2 where id = $1",
                                 accepted.batch_id, answer)  # fmt: skip
    return [identity for identity, _ in accepted.messages], submission


async def populate(connection: Connection, tenant: TenantId, number: str) -> MessageId:
    """Everything that may name a person; returns a message that we sent."""
    ours, _ = await send(connection, tenant, number, content=b'{"message": "Dear customer"}')
    together, _ = await send(connection, tenant, number, "449999999999", content=f"Call {number}".encode())
    await tell(
        connection, tenant,
        body(f"+{number}", f"t-{number}", correlationid=str(ours[0])),
        body(f"tel:{number}", f"t-{number}", "Failed", correlationid=str(ours[0])),
        body(f"00{number}", f"t2-{number}", correlationid=str(together[0])),
        body(number, f"observed-{number}", subtid="node 7"),
        body(number, f"observed-{number}", "Read", subtid="node 7"),
        body(number, f"{number}_1"),  # a transid that names the person
    )  # fmt: skip
    # asked as a customer, told as a number
    customer, _ = await send(connection, tenant, f"customer-{number[-1]}")
    await tell(connection, tenant, body(number, f"c-{number}", correlationid=str(customer[0])))
    event = Request(Api.EVENTS, Channel.EVENT, f'{{"events": [{{"to": "{number}"}}]}}'.encode(),
                    (Asked("event", "e1", "0", None),), None, None, None, 2, None, None)  # fmt: skip
    accepted = await outbox.accept(connection, tenant, event, now())
    await connection.execute("delete from outbox where submission_id = $1", accepted.submissions[0])
    child = body(number, f"child-{number}", correlationid=str(accepted.messages[0][0]))
    await tell(connection, tenant, child)
    for raw in (f"<x>{number}</x>", f"to=%2B{number}", f'{{"to": "+{number[:2]} {number[2:6]} {number[6:]}"}}'):
        await put(connection, tenant, raw.encode())
    await put(connection, tenant, b"[]", headers=json.dumps({"x-to": f"+{number}"}))
    await connection.execute(
        "insert into forward (tenant, message_id, fingerprint, url, created_at, due_at, expires_at)"
        " select $1, $2, $3, $4, now(), now(), now() on conflict do nothing",
        tenant, ours[0], secrets.token_bytes(16), f"https://client.example/{quote('+' + number)}",
    )  # fmt: skip
    return ours[0]


async def places(connection: Connection, number: str) -> list[str]:
    """Every column of every table in which the number stands, as text or as a digest of it."""
    digests = [destination_digest(number), leg_digest("", number), leg_digest("node 7", number)]
    needles = [n.encode() for n in (number, f"{number[:2]} {number[2:6]} {number[6:]}")] + digests
    columns = await connection.fetch(
        "select c.relname, a.attname, t.typname from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " join pg_type t on t.oid = a.atttypid where c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0"
        " and c.relnamespace = 'public'::regnamespace and not a.attisdropped order by 1, 2"
    )
    found = []
    for table, column, kind in columns:
        if kind not in TEXTS:
            continue
        value = column if kind == "bytea" else f"convert_to({column}::text, 'UTF8')"
        query = f"select count(*) from {table} where " + " or ".join(
            f"position(${n + 1}::bytea in {value}) > 0" for n in range(len(needles))
        )
        if await connection.fetchval(query, *needles):
            found.append(f"{table}.{column}")
    return found
