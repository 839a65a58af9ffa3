"""The platform's words and codes, row by row as its documents have them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.messages.lattice import NEGATIVE, RANK, Channel, Fact, State
from receiver.platform.apis import Api
from receiver.platform.codes import (
    ANSWER_CODES,
    BOUNCES,
    CAUSES,
    RECEIPT_CODES,
    Class,
    answer_meaning,
    channel_of,
    fact_of,
    known_code,
    receipt_meaning,
    squeeze,
)

# Channels


@pytest.mark.parametrize(
    ("word", "channel"),
    [
        ("SMS", Channel.SMS),
        ("sms", Channel.SMS),
        ("voice", Channel.VOICE),
        ("Voice", Channel.VOICE),
        ("push", Channel.PUSH),
        ("rt", Channel.RT),
        ("appmessaging", Channel.RT),
        ("In-App", Channel.RT),
        ("email", Channel.EMAIL),
        ("E-mail", Channel.EMAIL),
        ("whatsapp", Channel.WHATSAPP),
        ("wa", Channel.WHATSAPP),
        ("fb", Channel.MESSENGER),
        ("messenger", Channel.MESSENGER),
        ("Messenger", Channel.MESSENGER),
        ("twitter", Channel.TWITTER),
        ("wechat", Channel.WECHAT),
        ("rcs", Channel.RCS),
        ("RCS", Channel.RCS),
        ("mms", Channel.MMS),
        ("applebusinesschat", Channel.APPLE),
        ("Apple Messages for Business", Channel.APPLE),
        ("instagram", Channel.INSTAGRAM),
        ("", Channel.OTHER),
        ("telepathy", Channel.OTHER),
        ("event", Channel.OTHER),  # no receipt comes over these two: they are names of ours
        ("campaign", Channel.OTHER),
    ],
)
def test_a_channel_is_known_in_each_of_its_spellings(word: str, channel: Channel) -> None:
    assert channel_of(word) is channel


# Statuses, by channel

SMS = {
    "Submitted": Fact.SUBMITTED,
    "Submit": Fact.SUBMITTED,
    "Submited": Fact.SUBMITTED,
    "Delivered": Fact.DELIVERED,
    "Undelivered": Fact.UNDELIVERED,
    "Un-Delivered": Fact.UNDELIVERED,
    "UNDELIVERED": Fact.UNDELIVERED,
    "Failed": Fact.FAILED,
    "Clicked": Fact.CLICKED,
}
VOICE = {
    "Offered": Fact.SUBMITTED,
    "Accepted": Fact.SUBMITTED,
    "Answered": Fact.DELIVERED,
    "Dropped": Fact.ENDED,
    "Rejected": Fact.UNDELIVERED,
    "Released": Fact.ENDED,
    "Disconnected": Fact.ENDED,
    "Trombone Connect": Fact.NOTED,
    "Trombone Release": Fact.NOTED,
    "Failed": Fact.FAILED,
}
CHAT = {"Submitted": Fact.SUBMITTED, "Delivered": Fact.DELIVERED, "Read": Fact.READ, "Failed": Fact.FAILED}
EMAIL = {
    "Submitted": Fact.SUBMITTED,
    "Delivered": Fact.DELIVERED,
    "Not verified": Fact.NOT_VERIFIED,
    "Not Verified": Fact.NOT_VERIFIED,
    "Invalid": Fact.INVALID,
    "Bounce": Fact.BOUNCED,
    "Bounced": Fact.BOUNCED,
    "Complaint": Fact.COMPLAINED,
    "Complained": Fact.COMPLAINED,
    "Failed": Fact.FAILED,
    "Read": Fact.READ,
    "Clicked": Fact.CLICKED,
}
ONEAPI = {
    "DeliveredToTerminal": Fact.DELIVERED,
    "DeliveredToNetwork": Fact.SUBMITTED,
    "MessageWaiting": Fact.SUBMITTED,
    "DeliveryUncertain": Fact.NOTED,
    "DeliveryImpossible": Fact.UNDELIVERED,
    "DeliveryNotificationNotSupported": Fact.NO_RECEIPT,
}
# of the transaction status, which is asked for and not told
ASKED_SMS = {
    "queued": Fact.ACCEPTED,
    "sent": Fact.SUBMITTED,
    "delivered": Fact.DELIVERED,
    "failed": Fact.FAILED,
    "expired": Fact.UNDELIVERED,
}
ASKED_VOICE = {
    "queued": Fact.ACCEPTED,
    "sent": Fact.SUBMITTED,
    "answered": Fact.DELIVERED,
    "no answer": Fact.UNDELIVERED,
    "rejected": Fact.UNDELIVERED,
    "busy": Fact.UNDELIVERED,
    "others": Fact.UNDELIVERED,
}
STATUSES: list[tuple[Channel, dict[str, Fact]]] = [
    (Channel.SMS, SMS),
    (Channel.SMS, ASKED_SMS),
    (Channel.VOICE, VOICE),
    (Channel.VOICE, {status.upper(): fact for status, fact in VOICE.items()}),
    (Channel.VOICE, ASKED_VOICE),
    (Channel.RT, {**CHAT, "Clicked": Fact.CLICKED}),
    (Channel.PUSH, CHAT),
    (Channel.MESSENGER, CHAT),
    (Channel.TWITTER, {"Delivered": Fact.DELIVERED, "Failed": Fact.FAILED}),
    (Channel.WECHAT, {"Delivered": Fact.DELIVERED, "Failed": Fact.FAILED}),
    (Channel.WHATSAPP, CHAT),
    (Channel.RCS, CHAT),
    (Channel.EMAIL, EMAIL),
    (Channel.APPLE, {"Submitted": Fact.SUBMITTED, "Failed": Fact.FAILED}),
    (Channel.MMS, {"Submitted": Fact.SUBMITTED, "Delivered": Fact.DELIVERED, "Failed": Fact.FAILED}),
    (Channel.INSTAGRAM, CHAT),
    (Channel.RCS, {"Subscribe": Fact.NOTED, "Unsubscribe": Fact.NOTED}),
    (Channel.VOICE, {"Trombone Connected": Fact.NOTED, "TROMBONE RELEASED": Fact.NOTED}),
    (Channel.VOICE, {"Message Expired": Fact.UNDELIVERED}),
    (Channel.OTHER, ONEAPI),
    (Channel.SMS, ONEAPI),
]


@pytest.mark.parametrize(
    ("channel", "status", "fact"),
    [(channel, status, fact) for channel, table in STATUSES for status, fact in table.items()],
    ids=str,
)
def test_a_status_proves_what_the_table_says(channel: Channel, status: str, fact: Fact) -> None:
    assert fact_of(channel, status) is fact


@pytest.mark.parametrize(
    "status", ["Answered", "Offered", "Accepted", "Dropped", "Released", "busy", "Trombone Connect"]
)
def test_a_word_of_voice_is_unknown_on_another_channel(status: str) -> None:
    assert fact_of(Channel.SMS, status) is Fact.UNKNOWN


def test_each_state_of_a_voice_call_is_the_designed_one() -> None:
    states = {status: RANK[fact_of(Channel.VOICE, status)] for status in VOICE}
    assert states["Offered"] is states["Accepted"] is State.SUBMITTED
    assert states["Dropped"] is states["Released"] is states["Disconnected"] is State.ENDED
    assert states["Answered"] is State.DELIVERED


@given(st.sampled_from(Channel), st.text(max_size=40))
@settings(deadline=None)
def test_a_status_in_no_table_is_unknown_and_proves_no_failure(channel: Channel, status: str) -> None:
    tables = {squeeze(s) for _, table in STATUSES for s in table}
    fact = fact_of(channel, status)
    if squeeze(status) not in tables | {"seen", "click", "notdelivered"}:
        assert fact is Fact.UNKNOWN
        assert not fact & NEGATIVE
        assert RANK[fact] is State.QUEUED


@pytest.mark.parametrize("status", ['["Delivered"]', '{"delivered":""}', '{"Failed":[]}', "[read]"])
def test_a_list_or_an_object_is_no_status_whatever_word_it_holds(status: str) -> None:
    assert fact_of(Channel.SMS, status) is Fact.UNKNOWN


def test_squeezing_keeps_letters_and_digits_and_is_bounded() -> None:
    assert squeeze(" Un-Delivered ") == "undelivered"
    assert squeeze("") == squeeze(" -_-") == ""
    assert len(squeeze("ß" * 1_000_000)) == 64


# Codes of receipts

RECEIPTS: list[tuple[Channel, str, Class]] = [
    *[(Channel.SMS, code, Class.CONFIGURATION) for code in ("7101", "7210", "7211")],
    *[(Channel.SMS, code, Class.RECIPIENT) for code in ("7102", "7203", "7283")],
    *[(Channel.SMS, code, Class.CONTENT) for code in ("7107", "7205", "7111", "7607")],
    *[(Channel.SMS, code, Class.POLICY) for code in ("7109", "7720")],
    *[
        (Channel.SMS, code, Class.TEMPORARY)
        for code in ("7201", "7202", "7204", "7206", "7207", "7208", "7209", "7302", "7006")
    ],
    *[(Channel.VOICE, code, Class.TEMPORARY) for code in ("7401", "7402", "7404")],
    (Channel.VOICE, "7406", Class.RECIPIENT),
    *[(Channel.VOICE, code, Class.UNKNOWN) for code in ("7407", "7408", "7409", "7410", "7411", "7412")],
    *[(Channel.EMAIL, code, Class.RECIPIENT) for code in ("7520", "7521", "7523")],
    (Channel.EMAIL, "7522", Class.CONFIGURATION),
    *[(Channel.WHATSAPP, code, Class.UNKNOWN) for code in ("7500", "7501", "7502")],
    (Channel.VOICE, "7519", Class.UNKNOWN),
    (Channel.SMS, "7528", Class.UNKNOWN),
    (Channel.WHATSAPP, "7200", Class.PLATFORM),
    (Channel.WHATSAPP, "7108", Class.CONFIGURATION),
    (Channel.PUSH, "7104", Class.CONFIGURATION),
    (Channel.RT, "7105", Class.RECIPIENT),
    (Channel.APPLE, "7314", Class.CONFIGURATION),
    (Channel.RCS, "7740", Class.CONTENT),
    (Channel.SMS, "7005", Class.TEMPORARY),
    *[(Channel.EMAIL, str(code), Class.POLICY) for code in range(9000, 9011)],
    (Channel.VOICE, "7208", Class.TEMPORARY),
    *[(Channel.PUSH, code, Class.CONTENT) for code in ("7003", "7004")],
    (Channel.PUSH, "7404", Class.TEMPORARY),
    (Channel.EMAIL, "7240", Class.RECIPIENT),
    (Channel.EMAIL, "7241", Class.POLICY),
]


@pytest.mark.parametrize(("channel", "code", "failure_class"), RECEIPTS, ids=str)
def test_the_code_of_a_receipt_tells_who_can_mend_it(channel: Channel, code: str, failure_class: Class) -> None:
    meaning = receipt_meaning(channel, code)
    assert meaning is not None
    assert meaning.failure_class is failure_class
    assert meaning.sentence


@pytest.mark.parametrize("code", ["7101", "7207", "7720"])
def test_mms_and_a_channel_that_nobody_named_read_the_codes_of_sms(code: str) -> None:
    assert (
        receipt_meaning(Channel.MMS, code) == receipt_meaning(Channel.OTHER, code) == receipt_meaning(Channel.SMS, code)
    )


@pytest.mark.parametrize(("channel", "code"), [(Channel.PUSH, "7101"), (Channel.SMS, "7401"), (Channel.OTHER, "7401")])
def test_a_code_of_one_channel_says_nothing_on_another(channel: Channel, code: str) -> None:
    assert receipt_meaning(channel, code) is None


@pytest.mark.parametrize("code", ["", "4242", "07500", "7500 ", "1001", "x" * 100_000], ids=lambda code: code[:8])
def test_a_code_in_no_table_says_nothing(code: str) -> None:
    assert all(receipt_meaning(channel, code) is None for channel in Channel)


# Bounces

BOUNCE_TABLE = {
    "Permanent_General": Class.RECIPIENT,
    "Permanent_NoEmail": Class.RECIPIENT,
    "Permanent_Suppressed": Class.POLICY,
    "Transient_General": Class.TEMPORARY,
    "Transient_MailboxFull": Class.TEMPORARY,
    "Transient_MessageTooLarge": Class.CONTENT,
    "Transient_ContentRejected": Class.CONTENT,
    "Transient_AttachmentRejected": Class.CONTENT,
}


@pytest.mark.parametrize(("description", "failure_class"), BOUNCE_TABLE.items(), ids=str)
def test_a_bounce_tells_its_cause_in_the_description(description: str, failure_class: Class) -> None:
    meaning = receipt_meaning(Channel.EMAIL, "7520", description)
    assert meaning is not None
    assert meaning.failure_class is failure_class
    assert receipt_meaning(Channel.EMAIL, "7520", f" {description.upper()} ") is meaning


def test_the_table_of_bounces_holds_no_others() -> None:
    assert set(BOUNCES) == {description.casefold() for description in BOUNCE_TABLE}


@pytest.mark.parametrize("additional", ["smtp;550 no such user", "5.1.1|failed|smtp; 550-5.1.1 gone", "SMTP; 554"])
def test_a_transient_bounce_that_the_server_meant_for_good_is_permanent(additional: str) -> None:
    meaning = receipt_meaning(Channel.EMAIL, "7520", "Transient_General", additional)
    assert meaning is BOUNCES["permanent_general"]


@pytest.mark.parametrize("additional", ["", "smtp; 450 try later", "smtp;421", "550", "5.1.1"])
def test_a_transient_bounce_without_a_permanent_answer_stays_transient(additional: str) -> None:
    meaning = receipt_meaning(Channel.EMAIL, "7520", "Transient_General", additional)
    assert meaning is BOUNCES["transient_general"]


def test_only_the_general_transient_bounce_can_turn_permanent() -> None:
    meaning = receipt_meaning(Channel.EMAIL, "7520", "Transient_MailboxFull", "smtp; 552")
    assert meaning is BOUNCES["transient_mailboxfull"]


def test_a_description_of_a_bounce_says_nothing_on_another_channel() -> None:
    meaning = receipt_meaning(Channel.SMS, "7101", "Permanent_NoEmail")
    assert meaning is not None
    assert meaning.failure_class is Class.CONFIGURATION


# Causes of WhatsApp

CAUSE_TABLE = {
    "130429": Class.TEMPORARY,
    "131026": Class.RECIPIENT,
    "131042": Class.CONFIGURATION,
    "131047": Class.CONTENT,
    "131049": Class.POLICY,
    "131050": Class.POLICY,
    "131056": Class.TEMPORARY,
    "132001": Class.CONFIGURATION,
    "132015": Class.CONFIGURATION,
}


@pytest.mark.parametrize(("cause", "failure_class"), CAUSE_TABLE.items(), ids=str)
def test_whatsapp_tells_its_cause_in_the_additional_information(cause: str, failure_class: Class) -> None:
    for additional in (f"(#{cause}) | why", f" (#{cause})|why", f"(#{cause})"):
        meaning = receipt_meaning(Channel.WHATSAPP, "7200", "Unknown Status", additional)
        assert meaning is not None
        assert meaning.failure_class is failure_class
    # the queries keep both in one text: without a description the cause comes first
    assert receipt_meaning(Channel.WHATSAPP, "7200", f"(#{cause}) | why") is CAUSES[cause]


def test_the_table_of_causes_holds_no_others() -> None:
    assert set(CAUSES) == set(CAUSE_TABLE)


@pytest.mark.parametrize(
    "additional", ["", "131049", "(131049)", "why (#131049)", "(#999999) | new", "(#" + "1" * 99_999]
)
def test_a_cause_that_nobody_knows_leaves_the_meaning_to_the_code(additional: str) -> None:
    meaning = receipt_meaning(Channel.WHATSAPP, "7200", "Unknown Status", additional)
    assert meaning is receipt_meaning(Channel.WHATSAPP, "7200")
    assert meaning is not None


def test_a_cause_of_whatsapp_says_nothing_on_another_channel() -> None:
    assert receipt_meaning(Channel.SMS, "7200", "", "(#131049) | why") is receipt_meaning(Channel.SMS, "7200")


# Codes of answers

ANSWERS: dict[str, dict[str, Class]] = {
    "messaging": {
        "1001": Class.UNKNOWN,
        "7000": Class.CONTENT,
        "7001": Class.CONFIGURATION,
        "7002": Class.CONFIGURATION,
        "7003": Class.CONTENT,
        "7004": Class.CONTENT,
        "7005": Class.TEMPORARY,
        "7006": Class.TEMPORARY,
        "7007": Class.CONFIGURATION,
        "7009": Class.CONTENT,
        "7020": Class.TEMPORARY,
    },
    "events": {
        "1002": Class.UNKNOWN,
        "7000": Class.CONTENT,
        "7001": Class.CONFIGURATION,
        "7002": Class.CONFIGURATION,
        "7004": Class.CONTENT,
        "7005": Class.TEMPORARY,
        "7006": Class.TEMPORARY,
        "7007": Class.CONFIGURATION,
        "7020": Class.TEMPORARY,
        "7025": Class.CONTENT,
        "7027": Class.CONTENT,
    },
    "campaign": {
        "1001": Class.CONTENT,
        "1002": Class.CONTENT,
        "1003": Class.PLATFORM,
        "401": Class.CONFIGURATION,
        "403": Class.CONFIGURATION,
        "404": Class.CONFIGURATION,
        "405": Class.CONFIGURATION,
        "429": Class.TEMPORARY,
        "430": Class.CONFIGURATION,
        "498": Class.CONFIGURATION,
        "499": Class.PLATFORM,
        "500": Class.PLATFORM,
        "502": Class.PLATFORM,
    },
}
ANSWERS["messaging_v2"] = ANSWERS["messaging"]


def test_the_codes_of_each_api_are_the_documented_ones() -> None:
    found = {
        api: {code: meaning.failure_class for code, meaning in table.items()} for api, table in ANSWER_CODES.items()
    }
    assert found == ANSWERS


def test_one_code_means_different_things_by_api() -> None:
    queued, no_json = answer_meaning("messaging", "1001"), answer_meaning("campaign", "1001")
    assert queued is not None
    assert no_json is not None
    assert (queued.sentence, no_json.sentence) == (
        "The platform has queued the message.",
        "The platform could not read the event as JSON.",
    )
    assert answer_meaning("events", "1001") is None
    assert answer_meaning("messaging", "4242") is None


def test_every_api_has_its_table() -> None:
    assert set(ANSWER_CODES) == {api.word for api in Api}


# All tables


def test_every_sentence_is_one_for_people() -> None:
    tables = [*RECEIPT_CODES.values(), *ANSWER_CODES.values(), BOUNCES, CAUSES]
    for table in tables:
        for code, meaning in table.items():
            assert meaning.sentence[0].isupper(), code
            assert meaning.sentence.endswith("."), code
            assert code not in meaning.sentence


def test_a_label_is_a_code_of_a_table_or_one_of_two_words() -> None:
    assert known_code(None) == known_code("") == "none"
    assert known_code("4242") == known_code("x" * 1000) == "other"
    tables = [*RECEIPT_CODES.values(), *ANSWER_CODES.values()]
    assert all(known_code(code) == code for table in tables for code in table)


def test_the_numbers_of_the_classes_are_those_that_are_stored() -> None:
    assert {failure_class.word: int(failure_class) for failure_class in Class} == {
        "unknown": 0,
        "recipient": 1,
        "content": 2,
        "policy": 3,
        "configuration": 4,
        "temporary": 5,
        "platform": 6,
    }


# The platform's own list, as its documents have it: no code of it may be without a meaning

LISTED = {
    **dict.fromkeys(
        ["7500", "7501", "7502", "7519", "7520", "7521", "7522", "7523", "7528", "7200", "7108", "7104"], None
    ),
    **dict.fromkeys([str(code) for code in range(9000, 9011)], None),
    **dict.fromkeys(["7101", "7210", "7211", "7102", "7203", "7283", "7107", "7205", "7111", "7607"], Channel.SMS),
    **dict.fromkeys(
        ["7109", "7720", "7201", "7202", "7204", "7206", "7207", "7208", "7209", "7302", "7006"], Channel.SMS
    ),
    **dict.fromkeys(["7401", "7402", "7404", "7406", "7407", "7408", "7409", "7410", "7411", "7412"], Channel.VOICE),
}


def test_every_listed_code_of_a_receipt_has_a_meaning_on_every_channel_that_it_is_listed_for() -> None:
    for code, only in LISTED.items():
        for channel in Channel if only is None else [only]:
            assert receipt_meaning(channel, code) is not None, (code, channel)


def test_the_codes_of_good_news_blame_nobody() -> None:
    for code in ("7500", "7501", "7502", "7519", "7528", "7407", "7408"):
        meaning = receipt_meaning(Channel.VOICE, code)
        assert meaning is not None
        assert meaning.failure_class is Class.UNKNOWN
