"""Cancelling: what waits is taken back for good, what was claimed is not, and no message is ever both."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from receiver.database.pool import connect
from receiver.ids import new_id
from receiver.messages.lattice import State
from receiver.sending import claims
from tests.receipts.tellings import body
from tests.sending.doors import Doors, with_doors
from tests.sending.platforms import recording_platform, sms
from tests.support import Database, eventually, now, receiver_process

ONE, TWO, THREE = "447700900001", "447700900002", "447700900003"


async def sent(doors: Doors, *numbers: str) -> list[str]:
    answer = await doors.post("/v1/messages", sms(*numbers))
    assert answer.status_code == 202
    return [message["id"] for message in answer.json()["messages"]]


async def cancelled(doors: Doors, identity: str, **how: Any) -> tuple[int, dict[str, Any]]:
    answer = await doors.api.delete(f"/v1/messages/{identity}", **how)
    return answer.status_code, answer.json()


async def claim(doors: Doors, submission: UUID) -> None:
    await doors.rows("update outbox set lease_until = $2 where submission_id = $1", submission, now())


def test_one_message_of_a_submission_is_taken_out_and_the_others_stay(database: Database) -> None:
    async def work(doors: Doors) -> None:
        one, two = await sent(doors, ONE, TWO)
        assert await cancelled(doors, one) == (200, {"id": one, "state": "cancelled"})
        [row] = await doors.rows("select message_count from outbox")
        assert row["message_count"] == 1
        assert (await doors.state(one), await doors.state(two)) == (State.CANCELLED, State.QUEUED)
        found = await doors.get(one)
        assert (found["state"], found["final"]) == ("cancelled", True)
        assert found["reason"]["text"] == "Cancelled before it was sent."
        assert [entry["feed"] for entry in found["timeline"]] == ["own"]
        assert (
            'receiver_messages_total{channel="sms",feed="own",state="cancelled",tenant="default"}'
            in (await doors.api.get("/metrics")).text
        )

    with_doors(database, work)


@pytest.mark.parametrize("keep", ["no", "yes"])
def test_with_its_last_message_the_submission_leaves_the_outbox(database: Database, keep: str) -> None:
    async def work(doors: Doors) -> None:
        for identity in await sent(doors, ONE, TWO):
            assert (await cancelled(doors, identity))[0] == 200
        assert await doors.value("select count(*) from outbox") == 0
        [row] = await doors.rows("select content is not null as kept, sent_at, answered_at from submission")
        assert (row["kept"], row["sent_at"]) == (keep == "yes", None)
        assert row["answered_at"]

    with_doors(database, work, RECEIVER_KEEP_CONTENT=keep)


def test_cancelling_again_says_the_same_and_changes_nothing(database: Database) -> None:
    async def work(doors: Doors) -> None:
        one, _ = await sent(doors, ONE, TWO)
        first = await cancelled(doors, one)
        after = await doors.counts()
        assert await cancelled(doors, one) == first
        assert await doors.counts() == after
        assert await doors.value("select message_count from outbox") == 1

    with_doors(database, work)


def test_an_event_is_cancelled_like_a_message(database: Database) -> None:
    async def work(doors: Doors) -> None:
        answer = await doors.post("/v1/events", {"events": [{"evtid": "a"}, {"evtid": "a"}]})
        first, _ = (message["id"] for message in answer.json()["messages"])
        assert (await cancelled(doors, first))[0] == 200
        assert await doors.value("select message_count from outbox") == 1

    with_doors(database, work)


def test_a_cancelled_message_is_not_sent_though_a_receipt_has_lifted_its_state(database: Database) -> None:
    async def work(doors: Doors) -> None:
        one, two = await sent(doors, ONE, TWO)
        assert (await cancelled(doors, one))[0] == 200
        submission = await doors.submission_of(one)
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": ONE, "code": "7500"}
        await doors.tell(body(info, "T-1", one), submission)
        assert await doors.value("select state from message_state where id = $1", UUID(one)) == State.DELIVERED
        [load] = await claims.load(doors.connection, [submission])
        assert [str(recipient.message_id) for recipient in load.recipients] == [two]

    with_doors(database, work)


def test_what_is_claimed_or_was_sent_is_too_late_and_says_its_state(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [one] = await sent(doors, ONE)
        submission = await doors.submission_of(one)
        await claim(doors, submission)
        before = await doors.counts()
        status, told = await cancelled(doors, one)
        assert (status, told["code"], told["state"], told["id"]) == (409, "too_late", "queued", one)
        await doors.rows("delete from outbox where submission_id = $1", submission)
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": ONE, "code": "7500"}
        await doors.tell(body(info, "T-1"), submission)
        status, told = await cancelled(doors, one)
        assert (status, told["code"], told["state"]) == (409, "too_late", "delivered")
        assert before["change"] == await doors.value("select count(*) from change") - 1

    with_doors(database, work)


def test_what_waits_again_after_a_call_and_was_told_of_meanwhile_is_too_late(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [one] = await sent(doors, ONE)
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Submitted", "destination": ONE, "code": "7501"}
        await doors.tell(body(info, "T-1"), await doors.submission_of(one))
        status, told = await cancelled(doors, one)
        assert (status, told["state"]) == (409, "submitted")
        assert await doors.value("select message_count from outbox") == 1

    with_doors(database, work)


def test_what_was_not_sent_from_here_can_not_be_cancelled(database: Database) -> None:
    async def work(doors: Doors) -> None:
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Submitted", "destination": ONE, "code": "7501"}
        await doors.tell(body(info, "T-observed"))
        observed = str(await doors.value("select id from message"))
        answer = {"response": [{"code": "1001", "transid": "T-recorded"}]}
        recorded = await doors.post("/v1/messages/sent", {"request": sms(TWO), "answer": answer})
        for identity in (observed, recorded.json()["messages"][0]["id"]):
            status, told = await cancelled(doors, identity)
            assert (status, told["code"]) == (409, "not_issued")

    with_doors(database, work)


def test_nobody_cancels_what_is_not_there_or_not_his(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [one] = await sent(doors, ONE)
        assert (await cancelled(doors, str(new_id())))[0] == 404
        assert (await cancelled(doors, one, headers=doors.as_tenant("other")))[0] == 404
        assert (await cancelled(doors, one, headers=doors.as_tenant("default", "read")))[0] == 403
        for name, refusal in {"no-id": (400, "bad_id"), "sent": (405, "method_not_allowed")}.items():
            status, told = await cancelled(doors, name)
            assert (status, told["code"]) == refusal
        assert await doors.state(one) is State.QUEUED

    with_doors(database, work, "other", "default:read")


def test_a_merged_id_cancels_the_message_that_it_was_merged_into(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [one] = await sent(doors, ONE)
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Clicked", "destination": ONE, "code": "7528"}
        await doors.tell(body(info, "T-1"))
        observed = await doors.value("select id from message where origin = 2")
        await doors.rows(
            "with gone as (delete from change where message_id = $1)"
            " update message_state set merged_into = $2 where id = $1",
            observed,
            UUID(one),
        )
        assert await cancelled(doors, str(observed)) == (200, {"id": one, "state": "cancelled"})

    with_doors(database, work)


def test_a_cancel_and_a_claim_never_both_have_a_message(database: Database) -> None:
    """Cancels from several connections race a claimer: what is cancelled was not claimed with its submission."""

    async def work(doors: Doors) -> None:
        submissions = 40
        ids = [await sent(doors, ONE, TWO, THREE) for _ in range(submissions)]
        claimer = await connect(database.dsn, "tests")
        loaded: set[UUID] = set()

        async def claims() -> None:
            for _ in range(submissions):
                taken = await claimer.fetch(
                    "with due as (select submission_id from outbox where lease_until is null order by random() limit 1"
                    " for update skip locked) update outbox o set lease_until = $1 from due"
                    " where o.submission_id = due.submission_id returning o.submission_id",
                    now() + timedelta(hours=1),
                )
                rows = await claimer.fetch(
                    "select m.id from message m join message_state s on s.id = m.id"
                    " where m.submission_id = any($1::uuid[]) and s.state <> 40",
                    [row["submission_id"] for row in taken],
                )
                loaded.update(row["id"] for row in rows)

        results: dict[str, int] = {}

        async def cancels(share: list[str]) -> None:
            for identity in share:
                results[identity], _ = await cancelled(doors, identity)

        flat = [identity for group in ids for identity in group]
        await asyncio.gather(claims(), *(cancels(flat[n::4]) for n in range(4)))
        await claimer.close()
        taken_back = {UUID(identity) for identity, status in results.items() if status == 200}
        assert set(results.values()) <= {200, 409}
        assert not taken_back & loaded
        assert taken_back, "some came before the claim"
        counts = await doors.rows(
            "select o.message_count, (select count(*) from message m join message_state s on s.id = m.id"
            " where m.submission_id = o.submission_id and s.state = 0) as waiting from outbox o"
        )
        assert all(row["message_count"] == row["waiting"] > 0 for row in counts)
        left = await doors.value("select count(*) from message_state where state = 0")
        assert left == sum(row["waiting"] for row in counts) == len(flat) - len(taken_back)

    with_doors(database, work)


def is_accepted(client: httpx2.Client, identity: str) -> bool:
    return bool(client.get(f"/v1/messages/{identity}").json()["state"] == "accepted")


def test_the_platform_gets_what_was_not_cancelled_and_nothing_else(database: Database, tmp_path: Path) -> None:
    made: dict[str, str] = {}

    async def work(doors: Doors) -> None:
        for number, identity in zip((ONE, TWO, THREE), await sent(doors, ONE, TWO, THREE), strict=True):
            made[number] = identity
        [alone] = await sent(doors, ONE)
        assert (await cancelled(doors, made[TWO]))[0] == 200
        assert (await cancelled(doors, alone))[0] == 200

    with_doors(database, work)
    with recording_platform() as platform, receiver_process(database, tmp_path, platform_url=platform.url) as receiver:
        with receiver.client(database.key()) as client:
            for number in (ONE, THREE):
                eventually(partial(is_accepted, client, made[number]))
            assert client.get(f"/v1/messages/{made[TWO]}").json()["state"] == "cancelled"
            too_late = client.delete(f"/v1/messages/{made[ONE]}")
            assert (too_late.status_code, too_late.json()["state"]) == (409, "accepted")
        assert [call.numbers for call in platform.calls] == [[ONE, THREE]]
    assert database.value("select count(*) from outbox") == 0
