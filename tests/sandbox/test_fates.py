"""What is told of each message, and in which order."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from receiver.sandbox import magic, script
from tests.sandbox import Recorder, Stage, play, stage


def test_the_table_of_magic_destinations_lies_in_the_fictional_range() -> None:
    numbers = [row.number for row in magic.TABLE]
    assert len(set(numbers)) == len({row.name for row in magic.TABLE}) == len(numbers)
    assert all(447700900000 <= int(number) <= 447700900999 for number in numbers)


def test_a_delivered_number_is_told_submitted_and_then_delivered() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.DELIVERED)
        await on.quiet()
        assert on.recorder.told == [
            (magic.DELIVERED, "Submitted", "7501"),
            (magic.DELIVERED, "Delivered", "7500"),
        ]

    play(scene)


def test_an_undelivered_number_is_told_submitted_and_then_out_of_coverage() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.UNDELIVERED)
        await on.quiet()
        assert on.recorder.told == [
            (magic.UNDELIVERED, "Submitted", "7501"),
            (magic.UNDELIVERED, "Undelivered", "7207"),
        ]
        assert on.recorder.notifications[1]["deliveryInfo"]["Description"] == "Out of coverage"

    play(scene)


def test_a_failed_number_is_told_failed_alone() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED)
        await on.quiet()
        assert on.recorder.told == [(magic.FAILED, "Failed", "7101")]
        [notification] = on.recorder.notifications
        assert notification["deliveryInfo"]["Description"] == "Invalid Sender ID"
        assert notification["carrier"] == ""

    play(scene)


def test_a_silent_number_is_queued_and_never_told() -> None:
    async def scene(on: Stage) -> None:
        assert len(await on.send(magic.SILENT)) == 1
        await on.send(magic.DELIVERED)  # its whole script passes while the silent one stays silent
        await on.quiet()
        assert {number for number, _, _ in on.recorder.told} == {magic.DELIVERED}
        assert on.sandbox.ledger.messages == {"silent": 1, "delivered": 1}

    play(scene)


def test_a_number_told_twice_repeats_each_receipt_byte_for_byte() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.TWICE)
        await on.quiet()
        assert [status for _, status, _ in on.recorder.told] == [
            "Submitted",
            "Delivered",
            "Submitted",
            "Delivered",
        ]
        assert on.recorder.bodies[:2] == on.recorder.bodies[2:]

    play(scene)


def test_an_early_number_is_told_and_has_answered_before_its_submission_is() -> None:
    # Slow, and yet at once: these receipts do not wait.
    async def scene(on: Stage) -> None:
        [transid] = await on.send(magic.EARLY, magic.DELIVERED)
        assert on.recorder.told == [
            (magic.EARLY, "Submitted", "7501"),
            (magic.EARLY, "Delivered", "7500"),
        ]
        assert on.recorder.answered == 2
        assert [one["transid"] for one in on.recorder.notifications] == [transid] * 2

    play(scene, speed=1.0)


def test_an_early_number_holds_its_submission_until_its_notifyurl_has_answered() -> None:
    held = asyncio.Event()

    class Slow(Recorder):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await held.wait()
            await super().serve(reader, writer)

    async def scene(on: Stage) -> None:
        sending = asyncio.create_task(on.send(magic.EARLY))
        await on.until(lambda: on.sandbox.ledger.messages["early"] == 1)
        await on.client.get("/sandbox/ledger")  # the sandbox answers others meanwhile
        assert not sending.done()
        assert on.sandbox.ledger.submissions == {}
        held.set()
        await sending
        assert on.recorder.answered == 2

    play(scene, Slow())


def test_an_early_number_is_answered_although_its_notifyurl_refuses() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.EARLY)
        assert [status for _, status, _ in on.recorder.told[:2]] == ["Submitted", "Delivered"]

    play(scene, Recorder(answer=lambda _turn: 503), speed=1.0)


def test_a_receipt_has_the_documented_shape() -> None:
    async def scene(on: Stage) -> None:
        text = "x" * 161
        entries = [
            {"msisdn": ["+" + magic.DELIVERED], "correlationid": "entry"},
            {"msisdn": [magic.FAILED]},
        ]
        request = on.sms(
            destination=entries,
            channels={"sms": {"text": text}},
            correlationid="request",
            callbackData='basket="9" é',
        )
        [queued] = (await on.post(request)).json()["response"]
        await on.quiet()
        assert all("content-type: application/json" in head.lower() for head in on.recorder.heads)
        told = {one["deliveryInfo"]["deliveryStatus"]: one for one in on.recorder.notifications}
        stamp = told["Delivered"]["deliveryInfo"].pop("timeStamp")
        assert abs(datetime.fromisoformat(stamp) - datetime.now(UTC)) < timedelta(seconds=30)
        assert stamp.endswith("+05:30")
        assert len(stamp) == len("2022-10-10T13:53:13.749+05:30")
        carrier = told["Delivered"].pop("carrier")
        assert carrier in script.CARRIERS
        assert told["Delivered"] == {
            "deliveryInfo": {
                "Description": "Delivered",
                "code": "7500",
                "messageCount": "2",
                "deliveryChannel": "SMS",
                "additionalInfo": "",
                "destination": magic.DELIVERED,
                "destinationType": "msisdn",
                "deliveryStatus": "Delivered",
            },
            "subtid": "",
            "transid": queued["transid"],
            "callbackData": 'basket="9" é',
            "correlationid": "entry",
        }
        assert told["Failed"]["correlationid"] == "request"
        assert "messageCount" not in told["Submitted"]["deliveryInfo"]
        assert "carrier" not in told["Submitted"]

    play(scene, zone=timedelta(hours=5, minutes=30))


def test_what_the_request_leaves_out_is_told_empty_and_utc_is_written_z() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED)
        await on.quiet()
        [told] = on.recorder.notifications
        assert (told["correlationid"], told["callbackData"], told["subtid"]) == ("", "", "")
        assert told["deliveryInfo"]["timeStamp"].endswith("Z")

    play(scene)


@pytest.mark.parametrize("choice", ["request", "entry", "value", "suffixed"])
def test_an_answer_and_its_receipts_bear_the_transids_that_the_setting_says(choice: str) -> None:
    expected_count = {"request": 1, "entry": 2, "value": 3, "suffixed": 1}
    first, second, third = "447700900010", "447700900011", "447700900012"

    async def scene(on: Stage) -> None:
        request = on.sms(destination=[{"msisdn": [first, second]}, {"msisdn": [third]}])
        transids = [one["transid"] for one in (await on.post(request)).json()["response"]]
        assert len(set(transids)) == len(transids) == expected_count[choice]
        await on.quiet()
        borne = {one["deliveryInfo"]["destination"]: one["transid"] for one in on.recorder.notifications}
        one, *_, last = (transids[0], transids[-1])
        expected = {
            "request": [one, one, one],
            "entry": [one, one, last],
            "value": transids,
            "suffixed": [f"{one}_0", f"{one}_1", f"{one}_2"],
        }
        assert [borne[number] for number in (first, second, third)] == expected[choice]

    play(scene, transids=choice)


def test_the_services_own_notifyurl_is_told_when_the_request_names_none() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED, notifyurl=None)
        assert on.sandbox.ledger.pending == 0
        assert on.sandbox.ledger.messages == {"failed": 1}
        assert on.recorder.told == []

    play(scene)

    async def main() -> None:
        async with stage() as other, stage(notifyurl=other.recorder.url) as on:
            await on.send(magic.FAILED, notifyurl=None)
            await on.quiet()
            assert other.recorder.told == [(magic.FAILED, "Failed", "7101")]

    asyncio.run(main())


def test_a_number_that_cannot_be_one_fails_as_an_invalid_address() -> None:
    async def scene(on: Stage) -> None:
        await on.send("not-a-number")
        await on.quiet()
        assert on.recorder.told == [("not-a-number", "Failed", "7102")]

    play(scene)


def test_another_channel_is_told_submitted_and_delivered() -> None:
    async def scene(on: Stage) -> None:
        request = on.sms(
            deliverychannel="push",
            channels={"push": {"pushref": "p-1"}},
            destination=[{"android_pushid": ["apa91-a"]}],
        )
        await on.post(request)
        await on.quiet()
        told = {(destination, status) for destination, status, _ in on.recorder.told}
        assert {("apa91-a", "Submitted"), ("apa91-a", "Delivered")} <= told
        info = on.recorder.notifications[1]["deliveryInfo"]
        assert (info["deliveryChannel"], info["destinationType"]) == ("push", "android_pushid")
        assert info["pushId"] == "apa91-a"
        assert info["deviceid"]

    play(scene, undelivered=0, failed=0)


def test_no_phone_number_key_or_url_is_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="receiver.sandbox")

    async def scene(on: Stage) -> None:
        await on.send(magic.DELIVERED)
        await on.post(on.sms("447700900777", route="FAST"))
        await on.quiet()

    play(scene, Recorder(answer=lambda _turn: 400))
    ours = [record for record in caplog.records if record.name == "receiver.sandbox"]
    assert {record.getMessage() for record in ours} == {
        "submission_queued",
        "submission_refused",
        "receipt_dropped",
    }
    everything = json.dumps([record.__dict__ for record in ours], default=str)
    assert "4477009" not in everything
    assert "the-service-key" not in everything
    assert "t0ken" not in everything
