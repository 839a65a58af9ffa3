"""The simulated platform itself: takes what was found good, decides the fates, has the receipts told."""

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx2

from receiver.sandbox import births, capture, channels, crowd, export, fates, hostile, plays, script, status
from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.campaign import CampaignEvent
from receiver.sandbox.crowd import Wanted
from receiver.sandbox.event import EventCall
from receiver.sandbox.hostile import Plan, Victim
from receiver.sandbox.ledger import Ledger, Origin, Record
from receiver.sandbox.losing import lose
from receiver.sandbox.parcel import Parcel
from receiver.sandbox.plays import Asked
from receiver.sandbox.receipt import Message
from receiver.sandbox.request import Submission
from receiver.sandbox.scenario import CAMPAIGN, EVENTS, Scenario, ScenarioStep
from receiver.sandbox.settings import SandboxSettings
from receiver.sandbox.teller import Errand, Teller
from receiver.sandbox.transids import Transids, give_out, new_transid

log = logging.getLogger("receiver.sandbox")

BODY_KEPT: Final = 4_096  # bytes of a call that the status repeats
_AS_USUAL: Final = ScenarioStep()


class TooMuch(Exception):
    """More receipts wait than are allowed to, or the sandbox is closed."""


@dataclass(slots=True)
class _Call:
    """What all messages of one call have in common."""

    origin: Origin
    notifyurl: httpx2.URL | None
    now: float
    """By the loop's clock."""
    how: ScenarioStep
    early: list[asyncio.Future[None]] = field(default_factory=list)
    """What has to be told before the answer."""


class Sandbox:
    """One simulated platform with one tenant; belongs to one event loop."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.kept)
        self.scenario = Scenario(settings.scenario)
        self._teller = Teller(settings, self.ledger)
        self._random = random.Random(settings.seed)
        self._issued = 0
        self._victims: deque[Victim] = deque(maxlen=1_000)
        self._shares = script.Shares(settings.undelivered, settings.failed, settings.silent)

    async def run(self) -> None:
        """Tells receipts until close(); may be run once."""
        await self._teller.run()

    async def close(self) -> None:
        """Ends the telling within a second; what was not told is forgotten, as by a crash."""
        await self._teller.close()

    async def send(
        self, submission: Submission, body: bytes, path: str, how: ScenarioStep | None, form: Transids
    ) -> list[str]:
        """The transids of the answer to a Messaging request; raises Refused when no more can be taken.

        Waits for receipts that are told before the answer: at most the time-out of each.
        """
        self._make_room(len(submission.values), Code.INTERNAL)
        call = self._call(path, submission.sender, body, submission.notifyurl, how)
        answered, given = give_out(form, [value.entry for value in submission.values])
        for value, (asked, borne) in zip(submission.values, given, strict=True):
            dice = self._roll_dice()
            self._send(call, births.of_value(submission, value, borne, dice), dice, asked)
        self.ledger.take(value.correlationid for value in submission.values)
        await _told(call.early)
        log.info("submission_queued", extra={"transid": answered[0], "messages": len(submission.values)})
        return answered

    async def fire(self, asked: EventCall, body: bytes, how: ScenarioStep | None, form: Transids) -> list[str]:
        """The transids of the answer to a Custom Event request; raises Refused when no more can be taken."""
        self._make_room(sum(len(event.children) for event in asked.events), Code.EVENT_INTERNAL)
        call = self._call(EVENTS, "", body, asked.notifyurl, how)
        answered, given = give_out(form, range(len(asked.events)))
        for event, (shown, borne) in zip(asked.events, given, strict=True):
            self.ledger.add(births.of_event(event, borne), "event", origin=call.origin, answered=shown)
            for child in event.children:
                dice = self._roll_dice()
                message = births.of_child(event, child, borne, dice, self._random)
                self._send(call, message, dice, shown, child.subtid)
        self.ledger.take(event.correlationid for event in asked.events)
        await _told(call.early)
        log.info("events_queued", extra={"transid": answered[0], "events": len(asked.events)})
        return answered

    def campaign(self, event: CampaignEvent, body: bytes) -> str:
        """The transaction id of a Webex Campaign event, of which nobody is ever told."""
        transaction_id = f"evt_{new_transid()}"
        origin = self._call(CAMPAIGN, "", body, None, None).origin
        self.ledger.add(births.of_campaign(event, transaction_id), "event", origin=origin)
        return transaction_id

    def status(self, transid: str) -> list[dict[str, Any]]:
        """What is known by now of all messages of a transid that the ledger still keeps."""
        records = [one for one in self.ledger.of_transid(transid) if one.message.channel in channels.FAMILIES]
        return status.entries(records, datetime.now(self.settings.timezone))

    def page(self, after: int, limit: int) -> list[dict[str, Any]]:
        """A page of the ledger: up to `limit` of the kept messages with numbers above `after`."""
        now = datetime.now(self.settings.timezone)
        return [
            one.as_json()
            | {"taken": self.ledger.takings[one.message.correlationid], "status": status.word_of(one, now)}
            for one in self.ledger.after(after, limit)
        ]

    def export(self, after: int, last: int) -> Iterator[bytes]:
        """What was never told of the messages with numbers above `after`, up to `last`, as the platform exports it."""
        return export.entries(self.ledger.between(after, last))

    def _make_room(self, messages: int, broken: Code) -> None:
        if self._teller.closed:
            raise Refused(broken)
        if self.ledger.pending + messages > self.settings.pending_max:
            raise Refused(Code.TOO_MANY_TRANSACTIONS)

    def _call(
        self, path: str, sender: str, body: bytes, notifyurl: httpx2.URL | None, how: ScenarioStep | None
    ) -> _Call:
        kept = body if len(body) <= BODY_KEPT else b""
        origin = Origin(path, sender, kept, datetime.now(self.settings.timezone))
        return _Call(origin, notifyurl, asyncio.get_running_loop().time(), how or _AS_USUAL)

    def _send(self, call: _Call, message: Message, dice: Sequence[float], answered: str, subtid: str = "") -> None:
        """One message on its way."""
        how, later = call.how, call.how.receipts_after
        self._issued += 1
        if how.capture is not None:
            self._send_captured(call, message, dice, answered, how.capture)
            return
        if how.fate:
            fate = fates.scripted(how.fate, message.channel)
        else:
            fate = fates.fate_of(message, dice, self._shares, self.settings.profile)
        fate = fates.at_node(fate, subtid)
        paced = script.pace(fate, dice, self.settings.speed)
        steps = [(offset + later, step) for offset, step in zip(paced, fate.steps, strict=True)]
        books = _books(call, answered, steps)
        if call.notifyurl is None or not fate.steps:
            self.ledger.add(message, fate.name, **books)
            return
        if self.settings.profile == "hostile":
            roll = random.Random(f"{self.settings.seed}/issued/{self._issued}")
            plan = hostile.plan(
                message, steps, call.origin.sent_at, roll, notifyurl=call.notifyurl, victims=self._victims
            )
            self._victims.append(Victim(message, call.notifyurl))
        else:
            plan = Plan(fates.honest(message, steps, call.origin.sent_at), [])
        self.ledger.add(message, fate.name, plan.parcels, plan.troubles, **books)
        errand = Errand(
            call.notifyurl, call.now, self._kept(plan.parcels, how.lose), message.transid, script.spread(dice)
        )
        if (fate.before_answer or plan.before_answer) and not later:
            errand.began = 0.0  # before all that is due now: the one who submits waits for it
            errand.tried = asyncio.get_running_loop().create_future()
            call.early.append(errand.tried)
        self._teller.take(errand)

    def _send_captured(
        self, call: _Call, message: Message, dice: Sequence[float], answered: str, what: capture.Capture
    ) -> None:
        """One message on its way, whose fate is a capture's."""
        roll = random.Random(f"{self.settings.seed}/played/{self._issued}")
        sent_at, later = call.origin.sent_at, call.how.receipts_after
        played = capture.play(what, roll, speed=self.settings.speed, now=sent_at, names=plays.names_of(message))
        steps = [(offset + later, step) for offset, step in played.happened()]
        parcels = played.parcels()
        for parcel in parcels:
            parcel.offset += later
        told = parcels if call.notifyurl is not None else []
        self.ledger.add(message, "captured", told, **_books(call, answered, steps))
        if call.notifyurl is not None:
            kept = self._kept(told, call.how.lose)
            self._teller.take(Errand(call.notifyurl, call.now, kept, message.transid, script.spread(dice)))

    def _kept(self, parcels: Sequence[Parcel], share: float | None, name: str = "") -> list[Parcel]:
        """The bodies that are told; the others are lost, and entered in the ledger. `share` None: as is set."""
        share = self.settings.lose if share is None else share
        roll = random.Random(f"{self.settings.seed}/lost/{name or f'issued/{self._issued}'}")
        told, lost = lose(parcels, share, roll)
        self.ledger.lose(lost)
        return told

    def _roll_dice(self) -> list[float]:
        return [self._random.random() for _ in range(script.DICE)]

    async def tell(self, body: bytes) -> dict[str, Any]:
        """Makes messages up and has their receipts told; what is planned. Raises BadTelling or TooMuch."""
        wanted = crowd.read(body, self.settings)
        if self._teller.closed or self.ledger.pending + wanted.messages > self.settings.pending_max:
            raise TooMuch
        before = self.ledger.planned
        by_channel: Counter[str] = Counter()
        troubles: Counter[str] = Counter()
        record = None
        for number in range(wanted.messages):
            record, drawn = self._make_up(wanted, number)
            by_channel[record.message.channel] += 1
            troubles.update(drawn)
            if number % 50 == 49:
                await asyncio.sleep(0)  # the doors are served meanwhile
        assert record is not None
        log.info("telling_planned", extra={"messages": wanted.messages, "profile": wanted.profile})
        return {
            "messages": wanted.messages,
            "receipts": self.ledger.planned - before,
            "channels": dict(by_channel),
            "troubles": dict(sorted(troubles.items())),
        }

    def _make_up(self, wanted: Wanted, number: int) -> tuple[Record, Sequence[str]]:
        """The `number`-th message of a telling, on its way."""
        roll = random.Random(f"{wanted.seed}/told/{number}")
        message = crowd.person(wanted, number, roll)
        dice = [roll.random() for _ in range(script.DICE)]
        fate = fates.drawn(message.channel, dice, self._shares, wanted.profile)
        sent_at = datetime.now(self.settings.timezone)
        steps = list(zip(script.pace(fate, dice, self.settings.speed), fate.steps, strict=True))
        if wanted.profile == "hostile":
            plan = hostile.plan(message, steps, sent_at, roll)
        else:
            plan = Plan(fates.honest(message, steps, sent_at), [])
        urls = wanted.notifyurls
        for place, parcel in enumerate(plan.parcels):
            parcel.url = urls[(number + place) % len(urls)]
        record = self.ledger.add(message, fate.name, plan.parcels, plan.troubles, steps=steps, sent_at=sent_at)
        if parcels := self._kept(plan.parcels, wanted.lose, f"told/{wanted.seed}/{number}"):
            now = asyncio.get_running_loop().time()
            self._teller.take(Errand(urls[0], now, parcels, message.transid, script.spread(dice)))
        return record, plan.troubles

    async def play(self, asked: Asked) -> dict[str, Any]:
        """Has a capture told, each time of a fresh message; what is planned. Raises TooMuch."""
        waiting = self.ledger.pending + asked.times * len(asked.capture.steps)
        if self._teller.closed or waiting > self.settings.pending_max:
            raise TooMuch
        before, transids = self.ledger.planned, []
        for number in range(asked.times):
            sent_at = datetime.now(self.settings.timezone)
            played = capture.play(asked.capture, random.Random(), speed=asked.speed, now=sent_at)
            message, parcels = plays.message_of(asked.capture, played), played.parcels()
            self.ledger.add(message, "played", parcels, steps=played.happened(), sent_at=sent_at)
            self._teller.take(Errand(asked.notifyurl, asyncio.get_running_loop().time(), parcels, message.transid))
            transids.append(message.transid)
            if number % 50 == 49:
                await asyncio.sleep(0)
        log.info("play_planned", extra={"times": asked.times})
        return {"times": asked.times, "receipts": self.ledger.planned - before, "transids": transids}


def _books(call: _Call, answered: str, steps: Sequence[tuple[float, script.Step]]) -> dict[str, Any]:
    return {"origin": call.origin, "answered": answered, "steps": steps, "sent_at": call.origin.sent_at}


async def _told(early: list[asyncio.Future[None]]) -> None:
    if early:
        await asyncio.wait(early)
