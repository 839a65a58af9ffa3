"""The simulated platform itself: takes requests, decides their fates, has their receipts told."""

import asyncio
import hmac
import logging
import random
import re
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx2

from receiver.sandbox import answers, channels, crowd, hostile, magic, request, script
from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.crowd import Wanted
from receiver.sandbox.hostile import Plan, Victim
from receiver.sandbox.ledger import Ledger, Record
from receiver.sandbox.parcel import Parcel
from receiver.sandbox.receipt import Message, telling
from receiver.sandbox.request import Submission, Value
from receiver.sandbox.script import Script
from receiver.sandbox.settings import Profile, SandboxSettings
from receiver.sandbox.teller import Errand, Teller

log = logging.getLogger("receiver.sandbox")

_MSISDN = re.compile(r"[0-9]{1,15}")  # E.164 allows 15 digits; short numbers are allowed too


class TooMuch(Exception):
    """More receipts wait than are allowed to, or the sandbox is closed."""


class Sandbox:
    """One simulated platform with one tenant; belongs to one event loop."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.kept)
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

    async def messaging(self, key: str | None, body: bytes) -> bytes:
        """The answer to a Messaging v1 request; raises Refused.

        Waits for receipts that are told before the answer: at most the time-out of each.
        """
        try:
            self._admit(key)
            submission = request.read(body, self.settings)
            answered, early = self._queue(submission)
        except Refused as refused:
            self.ledger.submissions[refused.code.value] += 1
            log.info("submission_refused", extra={"code": refused.code.value})
            raise
        if early:
            await asyncio.wait(early)
        self.ledger.submissions[Code.QUEUED.value] += 1
        log.info("submission_queued", extra={"transid": answered[0], "messages": len(submission.values)})
        return answers.queued(answered)

    def _admit(self, key: str | None) -> None:
        if not key:
            raise Refused(Code.KEY_MISSING)
        given = key.encode()
        if not any(hmac.compare_digest(given, known.encode()) for known in self.settings.keys):
            raise Refused(Code.NOT_AUTHENTICATED)

    def _queue(self, submission: Submission) -> tuple[list[str], list[asyncio.Future[None]]]:
        """The transids of the answer, and what has to be told before it."""
        if self._teller.closed:
            raise Refused(Code.INTERNAL)
        if self.ledger.pending + len(submission.values) > self.settings.pending_max:
            raise Refused(Code.TOO_MANY_TRANSACTIONS)
        answered, borne = self._transids(submission.values)
        now = asyncio.get_running_loop().time()
        sent_at = datetime.now(self.settings.timezone)
        early = []
        for value, transid in zip(submission.values, borne, strict=True):
            errand = self._send(submission, value, transid, now, sent_at)
            if errand is not None and errand.tried is not None:
                early.append(errand.tried)
        return answered, early

    def _send(self, submission: Submission, value: Value, transid: str, now: float, sent_at: datetime) -> Errand | None:
        """One message on its way; None when nobody will be told of it."""
        dice = [self._random.random() for _ in range(script.DICE)]
        told_as = value.value.removeprefix("+") if value.id_type == "msisdn" else value.value
        message = Message(
            channel=submission.channel,
            destination=told_as,
            id_type=value.id_type,
            transid=transid,
            callback_data=submission.callback_data,
            correlationid=value.correlationid,
            parts=submission.parts,
            carrier=script.carrier(dice),
        )
        fate = self._fate(submission.channel, value.id_type, told_as, dice, self.settings.profile)
        self._issued += 1
        if submission.notifyurl is None or not fate.steps:
            self.ledger.add(message, fate.name, ())
            return None
        if self.settings.profile == "hostile":
            roll = random.Random(f"{self.settings.seed}/issued/{self._issued}")
            plan = self._hostile(message, fate, dice, sent_at, roll, submission.notifyurl)
            self._victims.append(Victim(message, submission.notifyurl))
        else:
            plan = Plan(self._honest(message, fate, dice, sent_at), [])
        self.ledger.add(message, fate.name, plan.parcels, plan.troubles)
        errand = Errand(submission.notifyurl, now, plan.parcels, transid, script.spread(dice))
        if fate.before_answer or plan.before_answer:
            errand.began = 0.0  # before all that is due now: the one who submits waits for it
            errand.tried = asyncio.get_running_loop().create_future()
        self._teller.take(errand)
        return errand

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
        fate = self._fate(message.channel, "", "", dice, wanted.profile)
        sent_at = datetime.now(self.settings.timezone)
        if wanted.profile == "hostile":
            plan = self._hostile(message, fate, dice, sent_at, roll, None)
        else:
            plan = Plan(self._honest(message, fate, dice, sent_at), [])
        urls = wanted.notifyurls
        for place, parcel in enumerate(plan.parcels):
            parcel.url = urls[(number + place) % len(urls)]
        record = self.ledger.add(message, fate.name, plan.parcels, plan.troubles)
        if plan.parcels:
            now = asyncio.get_running_loop().time()
            self._teller.take(Errand(urls[0], now, plan.parcels, message.transid, script.spread(dice)))
        return record, plan.troubles

    def _honest(self, message: Message, fate: Script, dice: Sequence[float], sent_at: datetime) -> list[Parcel]:
        """Each step as documented, in a body of its own."""
        parcels: list[Parcel] = []
        for step, offset in zip(fate.steps, script.pace(fate, dice, self.settings.speed), strict=True):
            if step.repeats is None:
                told = telling(message, step, sent_at + timedelta(seconds=offset))
            else:
                told = parcels[step.repeats].tellings[0]
            parcels.append(Parcel(offset, (told,)))
        return parcels

    def _hostile(
        self,
        message: Message,
        fate: Script,
        dice: Sequence[float],
        sent_at: datetime,
        roll: random.Random,
        notifyurl: httpx2.URL | None,
    ) -> Plan:
        steps = zip(script.pace(fate, dice, self.settings.speed), fate.steps, strict=True)
        return hostile.plan(message, list(steps), sent_at, roll, notifyurl=notifyurl, victims=self._victims)

    def _fate(self, channel: str, id_type: str, told_as: str, dice: Sequence[float], profile: Profile) -> Script:
        if channel == "sms" and id_type == "msisdn":
            fixed = magic.script_of(told_as)
            if fixed is not None:
                return fixed
            if not _MSISDN.fullmatch(told_as):
                return script.failed(script.INVALID_ADDRESS)
        if profile == "hostile":
            return channels.draw(channel, hostile.FATES, dice)
        return script.draw(self._shares, dice) if channel == "sms" else channels.draw(channel, self._shares, dice)

    def _transids(self, values: Sequence[Value]) -> tuple[list[str], list[str]]:
        """The transids of the answer, and the one that each value's receipts bear."""
        match self.settings.transids:
            case "request":
                one = answers.new_transid()
                return [one], [one] * len(values)
            case "suffixed":
                one = answers.new_transid()
                return [one], [f"{one}_{place}" for place in range(len(values))]
            case "entry":
                by_entry = {value.entry: answers.new_transid() for value in values}
                return list(by_entry.values()), [by_entry[value.entry] for value in values]
            case "value":
                each = [answers.new_transid() for _ in values]
                return each, each
