"""The families of the lattice: what each channel can tell, and whole lives as the platform tells them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from receiver.messages.lattice import FAMILIES, NEGATIVE, RANK, Channel, Fact, Fold, State, fold, is_final, reason_key
from receiver.platform.codes import channel_of, fact_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATES = Path(__file__).parent.parent.parent / "docs" / "states.md"

# As the platform's documents list them: every status that a channel can report.
REPORTED: dict[Channel, str] = {
    Channel.SMS: "Submitted, Delivered, Undelivered, Failed, Clicked",
    Channel.VOICE: "Offered, Accepted, Answered, Dropped, Rejected, Released, Disconnected, Trombone Connect, "
    "Trombone Release, Failed",
    Channel.RT: "Submitted, Delivered, Read, Failed, Clicked",
    Channel.PUSH: "Submitted, Delivered, Read, Failed",
    Channel.MESSENGER: "Submitted, Delivered, Read, Failed",
    Channel.WHATSAPP: "Submitted, Delivered, Read, Failed",
    Channel.RCS: "Submitted, Delivered, Read, Failed, Subscribe, Unsubscribe",
    Channel.TWITTER: "Delivered, Failed",
    Channel.WECHAT: "Delivered, Failed",
    Channel.EMAIL: "Submitted, Delivered, Not verified, Invalid, Bounced, Complaint, Failed, Read, Clicked",
    Channel.APPLE: "Submitted, Failed",
    Channel.MMS: "Submitted, Delivered, Failed",
    Channel.INSTAGRAM: "Submitted, Read, Failed",
    Channel.OTHER: "DeliveredToTerminal, DeliveredToNetwork, MessageWaiting, DeliveryUncertain, DeliveryImpossible, "
    "DeliveryNotificationNotSupported",
}
OURS = {Channel.EVENT, Channel.CAMPAIGN}  # no receipt comes over these


def test_every_channel_has_a_family() -> None:
    assert set(FAMILIES) == set(Channel)


@pytest.mark.parametrize("channel", REPORTED)
def test_a_family_can_tell_exactly_what_its_channel_reports(channel: Channel) -> None:
    told = Fact.NONE
    for status in REPORTED[channel].split(", "):
        told |= fact_of(channel, status)
    family = FAMILIES[channel]
    line = Fact.NONE
    for fact in family.line:
        line |= fact
    assert told == line | family.ill | family.beside


@pytest.mark.parametrize("channel", Channel)
def test_a_line_climbs_to_its_ceiling_and_nothing_ill_stands_on_it(channel: Channel) -> None:
    family = FAMILIES[channel]
    ranks = [RANK[fact] for fact in family.line]
    assert ranks == sorted(set(ranks))
    assert family.ceiling is ranks[-1]
    assert is_final(family.ceiling, channel)
    assert all(not is_final(state, channel) for state in ranks[:-1] if state < State.DELIVERED)
    assert not any(fact & NEGATIVE for fact in family.line)
    assert all(fact & NEGATIVE for fact in family.ill)
    assert not any(fact & NEGATIVE for fact in family.beside)


def table(head: str) -> list[list[str]]:
    """The rows of the table of docs/states.md whose head begins so."""
    text = STATES.read_text("utf-8").split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def words(facts: Fact | tuple[Fact, ...]) -> str:
    return ", ".join(fact.name.lower() for fact in facts if fact.name) or "-"


def test_the_page_of_states_has_every_family_as_it_is() -> None:
    assert table("family") == [
        [channel.word, words(f.line), f.ceiling.word, words(f.ill), words(f.beside)] for channel, f in FAMILIES.items()
    ]


def test_the_page_of_states_lists_what_each_channel_reports() -> None:
    listed = {channel: statuses for channels, statuses in table("channels") for channel in channels.split(", ")}
    assert listed == {channel.word: statuses for channel, statuses in REPORTED.items()}


def test_the_drawing_on_the_page_of_states_has_the_numbers_of_the_states() -> None:
    drawing = re.search(r"```\n( +0 .*?)```", STATES.read_text("utf-8"), re.DOTALL)
    assert drawing is not None
    head = [int(number) for number in drawing[1].splitlines()[0].split()]
    assert head == [0, 10, 20, 25, 60, 65, 70]
    assert [State(number).word for number in head] == [
        *("queued", "accepted", "submitted", "ended", "delivered", "bounced", "read")
    ]


# Whole lives, as told


@dataclass(frozen=True)
class Heard:
    """What the fold needs to know of a receipt: channel word, status, and the leg it speaks of."""

    channel: Channel
    fact: Fact
    number: int
    leg: tuple[object, ...]

    @property
    def fingerprint(self) -> bytes:
        return bytes([self.number]) * 16

    @property
    def reason_key(self) -> bytes | None:
        return reason_key(self.fact, True, True, self.fingerprint)

    @property
    def at(self) -> datetime:
        return NOON + timedelta(minutes=self.number)


def life(*told: str) -> list[Heard]:
    """Receipts from texts of the form `channel status` or `channel/device status`."""
    heard = []
    for number, text in enumerate(told):
        where, status = text.split(" ", 1)
        channel = channel_of(where.partition("/")[0])
        heard.append(Heard(channel, fact_of(channel, status), number, (channel, where)))
    return heard


LIVES: list[tuple[str, tuple[str, ...], State, bool]] = [
    ("an sms arrives", ("SMS Submitted", "SMS Delivered"), State.DELIVERED, False),
    ("a handset comes back late", ("SMS Submitted", "SMS Un-Delivered", "SMS Delivered"), State.DELIVERED, False),
    ("an sms fails and arrives", ("SMS Failed", "SMS Delivered"), State.DELIVERED, True),
    ("an sms expires", ("SMS Submitted", "SMS Un-Delivered"), State.UNDELIVERED, False),
    ("an sms is clicked before anything else is told", ("SMS Clicked", "SMS Submitted"), State.SUBMITTED, False),
    ("an mms comes back late", ("mms Undelivered", "mms Delivered"), State.DELIVERED, False),
    ("a call is answered", ("voice OFFERED", "voice ACCEPTED", "voice ANSWERED", "voice RELEASED"),
     State.DELIVERED, False),
    ("a call is answered and hung up", ("voice ANSWERED", "voice DISCONNECTED"), State.DELIVERED, False),
    ("a call is connected through", ("voice ANSWERED", "voice Trombone Connect", "voice Trombone Release"),
     State.DELIVERED, False),
    ("a call only ends", ("voice OFFERED", "voice DROPPED"), State.ENDED, False),
    ("a call is rejected, and then it ends", ("voice OFFERED", "voice REJECTED", "voice RELEASED"),
     State.UNDELIVERED, False),
    ("a call is rejected and answered", ("voice REJECTED", "voice ANSWERED"), State.DELIVERED, True),
    ("a second line alone proves nothing", ("voice Trombone Connect",), State.QUEUED, False),
    ("an email is read", ("email Submitted", "email Delivered", "email Read"), State.READ, False),
    ("an email bounces after it was delivered", ("email Delivered", "email Bounced"), State.BOUNCED, False),
    ("an email bounces and is read", ("email Bounced", "email Read"), State.READ, True),
    ("an email is complained of", ("email Delivered", "email Complaint"), State.DELIVERED, False),
    ("an email to an invalid address", ("email Invalid",), State.INVALID, False),
    ("an email to one not verified", ("email Submitted", "email Not Verified"), State.NOT_VERIFIED, False),
    ("an email fails and is delivered", ("email Failed", "email Delivered"), State.DELIVERED, True),
    ("apple takes it", ("applebusinesschat Submitted",), State.SUBMITTED, False),
    ("apple takes it and fails", ("applebusinesschat Submitted", "applebusinesschat Failed"), State.FAILED, False),
    ("one device of two", ("push/a Failed", "push/b Submitted", "push/b Delivered"), State.DELIVERED, False),
    ("one device says both", ("push/a Failed", "push/a Delivered"), State.DELIVERED, True),
    ("each device fails", ("push/a Failed", "push/b Failed"), State.FAILED, False),
    ("rcs falls back to sms", ("rcs Submitted", "rcs Failed", "SMS Submitted", "SMS Delivered"),
     State.DELIVERED, False),
    ("rcs and its sms fail", ("rcs Failed", "SMS Undelivered"), State.FAILED, False),
    ("rcs arrives although its sms was sent", ("rcs Undelivered", "SMS Submitted", "rcs Read"), State.READ, False),
    ("rcs fails and is read", ("rcs Failed", "rcs Read"), State.READ, True),
    ("somebody subscribes", ("rcs Subscribe",), State.QUEUED, False),
    ("whatsapp is read without being delivered", ("wa Submitted", "wa Read"), State.READ, False),
    ("whatsapp fails after it was read", ("wa Read", "wa Failed"), State.READ, True),
    ("twitter has no submitted", ("twitter Delivered",), State.DELIVERED, False),
    ("messenger is read", ("fb Submitted", "messenger Delivered", "fb Read"), State.READ, False),
    ("a hub says impossible, and then that it arrived", ("hub DeliveryImpossible", "hub DeliveredToTerminal"),
     State.DELIVERED, False),
    ("a hub has no receipts, and one comes", ("hub DeliveryNotificationNotSupported", "hub DeliveryImpossible"),
     State.UNDELIVERED, False),
    ("a hub has no receipts", ("hub DeliveredToNetwork", "hub DeliveryNotificationNotSupported"),
     State.NO_RECEIPT, False),
    ("a hub is uncertain", ("hub DeliveryUncertain",), State.QUEUED, False),
    ("a word of tomorrow", ("SMS Delivered", "SMS Recalled"), State.DELIVERED, False),
]  # fmt: skip


@pytest.mark.parametrize(("told", "state", "conflict"), [life[1:] for life in LIVES], ids=[life[0] for life in LIVES])
def test_a_life_ends_where_it_should_in_whatever_order_it_is_told(
    told: tuple[str, ...], state: State, conflict: bool
) -> None:
    heard = life(*told)
    beliefs: list[Fold] = [fold(order) for order in permutations(heard)]
    for belief in beliefs:
        assert (belief.state, belief.conflict) == (state, conflict)
    assert all(belief == beliefs[0] for belief in beliefs)


@pytest.mark.parametrize(
    ("channel", "state", "final"),
    [
        (Channel.APPLE, State.SUBMITTED, True),
        (Channel.APPLE, State.ACCEPTED, False),
        (Channel.CAMPAIGN, State.ACCEPTED, True),
        (Channel.EVENT, State.ACCEPTED, True),
        (Channel.EVENT, State.UNCERTAIN, False),
        (Channel.VOICE, State.ENDED, False),
        (Channel.SMS, State.SUBMITTED, False),
        (Channel.EMAIL, State.DELIVERED, True),
        (Channel.WHATSAPP, State.DELIVERED, True),
    ],
)
def test_a_state_is_final_where_nothing_more_is_to_be_expected(channel: Channel, state: State, final: bool) -> None:
    assert is_final(state, channel) is final


def test_clicks_and_complaints_keep_their_number_and_their_last_time() -> None:
    told = life("email Delivered", "email Clicked", "email Complained", "email Clicked")
    for order in permutations([*told, told[1]]):  # one of them told twice
        belief = fold(order)
        assert (belief.clicks, belief.complaints, belief.state) == (2, 1, State.DELIVERED)
        assert belief.last_times == {
            "clicked_at": NOON + timedelta(minutes=3),
            "complained_at": NOON + timedelta(minutes=2),
        }
