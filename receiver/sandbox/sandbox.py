"""The simulated platform itself: takes requests, decides their fates, has their receipts told."""

import asyncio
import hmac
import logging
import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from receiver.sandbox import answers, magic, request, script
from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.receipt import Message, Notification, notification
from receiver.sandbox.request import Submission, Value
from receiver.sandbox.settings import SandboxSettings
from receiver.sandbox.teller import Errand, Teller

log = logging.getLogger("receiver.sandbox")

_MSISDN = re.compile(r"[0-9]{1,15}")  # E.164 allows 15 digits; short numbers are allowed too


class Sandbox:
    """One simulated platform with one tenant; belongs to one event loop."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self._teller = Teller(settings, self.ledger)
        self._random = random.Random(settings.seed)
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
        fate = self._fate(submission.channel, value.id_type, told_as, dice)
        self.ledger.messages[fate.name] += 1
        if submission.notifyurl is None or not fate.steps:
            return None
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
        receipts: list[tuple[float, Notification]] = []
        for step, offset in zip(fate.steps, script.pace(fate, dice, self.settings.speed), strict=True):
            if step.repeats is None:
                told = notification(message, step.word, sent_at + timedelta(seconds=offset))
            else:
                told = receipts[step.repeats][1]
            receipts.append((now + offset, told))
        errand = Errand(submission.notifyurl, receipts, script.spread(dice))
        if fate.before_answer:
            errand.tried = asyncio.get_running_loop().create_future()
        self._teller.take(errand)
        return errand

    def _fate(self, channel: str, id_type: str, told_as: str, dice: Sequence[float]) -> script.Script:
        if channel != "sms":
            return script.DELIVERED_SCRIPT
        if id_type == "msisdn":
            fixed = magic.script_of(told_as)
            if fixed is not None:
                return fixed
            if not _MSISDN.fullmatch(told_as):
                return script.failed(script.INVALID_ADDRESS)
        return script.draw(self._shares, dice)

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
