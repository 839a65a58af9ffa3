"""Each documented sample, as we read it: a literal table."""

from dataclasses import dataclass

import pytest

from receiver.messages.lattice import RANK, Channel, Fact
from receiver.platform.codes import Class
from tests.receipts.reading import one, sample, sample_names, told


@dataclass(frozen=True)
class Expected:
    """A receipt as it must be read; times in UTC; None where a sample is silent."""

    channel: Channel
    fact: Fact
    status: str
    transid: str | None
    destination: str
    code: str | None = None
    told_at: str | None = None
    destination_type: str | None = "msisdn"
    description: str | None = None
    correlationid: str | None = None
    callback_data: str | None = None
    subtid: str | None = None
    device: str | None = None
    carrier: str | None = None
    message_count: int | None = None
    reason: Class | None = None


SAMPLES: dict[str, list[Expected]] = {
    "apple-failed": [
        Expected(
            Channel.APPLE,
            Fact.FAILED,
            "Failed",
            "c0a1f3d2-7314-4a55-8b10-0e0d0c0b0a09",
            "urn:mbid:AQAAY0000",
            "7314",
            "2024-05-14T14:14:30+00:00",
            "applebusinesschat",
            description="Invalid application details · the business id is not registered",
            correlationid="correl123",
            callback_data="callback4322",
            reason=Class.CONFIGURATION,
        )
    ],
    "email-bounce": [
        Expected(
            Channel.EMAIL,
            Fact.BOUNCED,
            "Bounce",
            "8a97075b-52c0-4c1d-ade4-39e7ac7af43b",
            "destination@example.com",
            "7520",
            "2023-02-06T22:21:52.322000+00:00",
            "email",
            description="Permanent_NoEmail · 5.1.1|failed|smtp; 550-5.1.1 The email account that you tried to reach "
            "does not exist.",
            reason=Class.RECIPIENT,
        )
    ],
    "export-two-failed-notifications": [
        Expected(
            Channel.EMAIL,
            Fact.DELIVERED,
            "Delivered",
            "726e1432-0b04-47b0-8c58-d0ee981fa6aa",
            "x@example.com",
            "7500",
            "2023-06-26T11:30:58.997000+00:00",
            "email",
            description="Delivered",
            correlationid="36bf0ab6-e5b8-4387-99fd-9e57105a86a8",
        ),
        Expected(
            Channel.EMAIL,
            Fact.FAILED,
            "Failed",
            "0b7c7a0e-9002-4b3c-8d0f-3f1b2a5c6d7e",
            "y@example.com",
            "9002",
            "2023-06-26T11:31:02.114000+00:00",
            "email",
            description="Recipient has not consented to message",
            reason=Class.POLICY,
        ),
    ],
    "minimal-sms-delivered": [
        Expected(
            Channel.SMS,
            Fact.DELIVERED,
            "Delivered",
            "2137c260-dae8-4ffa-9ca8-3f5d8a4cab8e",
            "2105",
            destination_type=None,
            correlationid="32607da6-8b72-4b71-990d-15d05765c7e6",
            callback_data="some-use-ful-data",
        )
    ],
    "oneapi-delivered": [
        Expected(
            Channel.OTHER,
            Fact.DELIVERED,
            "DeliveredToTerminal",
            None,
            "tel:+22507000000",
            destination_type=None,
            callback_data="1",
        )
    ],
    "push-submitted": [
        Expected(
            Channel.PUSH,
            Fact.SUBMITTED,
            "Submitted",
            "1baf584e-a059-4515-a1c1-e8391b08a16b",
            "ejS3Ao5xQ0",
            "7501",
            "2024-02-07T09:22:10.281000+00:00",
            "android_pushid",
            description="Submitted",
            correlationid="correlationId",
            callback_data="callbackData",
            device="dev0123456x78",
        )
    ],
    "rcs-failed-suffixed-transid": [
        Expected(
            Channel.RCS,
            Fact.FAILED,
            "Failed",
            "e94cc49e-a9c7-4d21-9f00-8b06c48fdc9d_10977_22757",
            "+916300000000",
            "7740",
            "2024-05-14T14:14:30+00:00",
            None,
            description="Invalid media details · Invalid media URL",
            reason=Class.CONTENT,
        )
    ],
    "rt-failed": [
        Expected(
            Channel.RT,
            Fact.FAILED,
            "Failed",
            "7046f24a-65bf-4530-a095-3ddbaf39e213",
            "9727",
            "7105",
            "2019-07-17T11:24:40.947000+00:00",
            None,
            description="Customer profile not found",
            reason=Class.RECIPIENT,
        )
    ],
    "sms-2016-delivered-same-timestamp": [
        Expected(
            Channel.SMS,
            Fact.DELIVERED,
            "Delivered",
            "262895e4-2217-4eef-92ca-79fd0250c4a3",
            "918886661353",
            "7500",
            "2016-07-20T17:13:17.908000+00:00",
            description="Delivered",
            correlationid="4eef-92ca-79fd0250c4a3-262895e4-2217",
            callback_data="return callbackdata",
        )
    ],
    "sms-2016-expired": [
        Expected(
            Channel.SMS,
            Fact.UNDELIVERED,
            "Un-Delivered",
            "9e3b2c7e-55f1-4c0e-9d0e-1f3f0c0a7208",
            "910000000001",
            "7208",
            "2016-07-28T11:47:56.459000+00:00",
            description="Message expired",
            reason=Class.TEMPORARY,
        )
    ],
    "sms-2016-submitted": [
        Expected(
            Channel.SMS,
            Fact.SUBMITTED,
            "Submitted",
            "262895e4-2217-4eef-92ca-79fd0250c4a3",
            "918886661353",
            "7501",
            "2016-07-20T17:13:17.908000+00:00",
            description="Submitted",
            correlationid="4eef-92ca-79fd0250c4a3-262895e4-2217",
            callback_data="return callbackdata",
        )
    ],
    "sms-delivered": [
        Expected(
            Channel.SMS,
            Fact.DELIVERED,
            "Delivered",
            "7f3af32c-8d6a-4173-b1c8-4805135ada71",
            "918900000000",
            "7500",
            "2022-10-10T12:53:13.749000+00:00",
            description="Delivered",
            carrier="USTMO",
            message_count=1,
        )
    ],
    "sms-failed-invalid-sender": [
        Expected(
            Channel.SMS,
            Fact.FAILED,
            "Failed",
            "3bf586f4-3001-4272-8da2-a7161644cebc",
            "918900000001",
            "7101",
            "2022-10-10T12:53:13.749000+00:00",
            description="Invalid Sender ID",
            message_count=1,
            reason=Class.CONFIGURATION,
        )
    ],
    # the code says failure, the status says on its way: the status decides, and there is no reason for a failure
    "sms-submitted-with-a-failure-code": [
        Expected(
            Channel.SMS,
            Fact.SUBMITTED,
            "Submitted",
            "5a0ab1ce-7102-4f7e-9d55-0f1e2d3c4b5a",
            "918900000002",
            "7102",
            "2022-10-10T12:53:13.749000+00:00",
            description="Invalid address",
        )
    ],
    "sms-submitted": [
        Expected(
            Channel.SMS,
            Fact.SUBMITTED,
            "Submitted",
            "7f3af32c-8d6a-4173-b1c8-4805135ada71",
            "918900000000",
            "7501",
            "2022-10-10T12:53:13.749000+00:00",
            description="Submitted",
        )
    ],
    "whatsapp-failed": [
        Expected(
            Channel.WHATSAPP,
            Fact.FAILED,
            "Failed",
            "b0b4a89e-7f5f-431a-a5f6-a22ab5f9bfd0",
            "918096000000",
            "7200",
            "2025-02-21T11:25:48.539000+00:00",
            "waid",
            description="Unknown Status · (#131049)  | In order to maintain a healthy ecosystem engagement, "
            "the message failed to be delivered.",
            reason=Class.POLICY,
        )
    ],
    "whatsapp-read": [
        Expected(
            Channel.WHATSAPP,
            Fact.READ,
            "Read",
            "5c9f6594-a371-4e78-8561-b695f9647472",
            "919900000000",
            "7502",
            "2019-03-04T09:49:24.849000+00:00",
            "waid",
            description="Read",
        )
    ],
}


def test_the_table_holds_every_sample() -> None:
    assert sample_names() == sorted(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_is_read_as_the_table_says(name: str) -> None:
    read = [
        Expected(
            t.channel,
            t.fact,
            t.status,
            t.transid,
            t.destination or "",
            t.code,
            t.told_at.isoformat() if t.told_at else None,
            t.destination_type,
            t.description,
            t.correlationid,
            t.callback_data,
            t.subtid,
            t.device,
            t.carrier,
            t.message_count,
            None if t.reason_class is None else Class(t.reason_class),
        )
        for t in told(sample(name))
    ]
    assert read == SAMPLES[name]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_is_derived_from_a_sample_agrees_with_its_fact(name: str) -> None:
    for receipt in told(sample(name)):
        assert receipt.rank is RANK[receipt.fact]
        assert (receipt.reason_key is None) == (receipt.reason_class is None)
        assert receipt.candidate is None  # none of the samples' correlation ids is a UUIDv7


def test_submitted_and_delivered_with_one_time_stamp_are_two_receipts_of_one_message() -> None:
    submitted, delivered = one(sample("sms-2016-submitted")), one(sample("sms-2016-delivered-same-timestamp"))
    assert submitted.told_at == delivered.told_at
    assert (submitted.transid_key, submitted.leg_key) == (delivered.transid_key, delivered.leg_key)
    assert submitted.fingerprint != delivered.fingerprint


def test_a_pushed_receipt_keeps_its_bytes_as_they_came() -> None:
    assert one(sample("sms-delivered")).raw == sample("sms-delivered")


def test_each_receipt_of_an_export_keeps_the_bytes_of_its_own_entry() -> None:
    export = sample("export-two-failed-notifications")
    for receipt in told(export):
        assert receipt.raw in export
        assert export.count(receipt.raw) == 1
        assert one(receipt.raw).fingerprint == receipt.fingerprint
