"""The platform's own doors: who is let in, what is judged, what is answered, and which step of a scenario is met."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from receiver.sandbox import answers, campaign, event, request
from receiver.sandbox.answers import Answer, CampaignCode, Code, Refused
from receiver.sandbox.credentials import Caller, admit, admit_campaign
from receiver.sandbox.sandbox import Sandbox
from receiver.sandbox.scenario import CAMPAIGN, EVENTS, MESSAGING, STATUS, V2, ScenarioStep
from receiver.sandbox.settings import SandboxSettings

log = logging.getLogger("receiver.sandbox")

Take = Callable[[Caller, bytes, ScenarioStep | None], Awaitable[Answer]]
Refuse = Callable[[Refused, int | None], Answer]

# The HTTP status that a code of Webex Campaign has, where not all come under 200.
_OWN_STATUS: Final[Mapping[str, int]] = {
    CampaignCode.NOT_FOUND: 404,
    CampaignCode.METHOD: 405,
    CampaignCode.THROTTLED: 429,
    CampaignCode.NOT_AUTHORISED: 401,
    CampaignCode.EXPIRED: 401,
    CampaignCode.GATEWAY: 502,
}


class _Peek(msgspec.Struct):
    deliverychannel: str = ""
    destination: object = None

    @property
    def recipients(self) -> list[str]:
        """Whom the call is for, without a plus in front; it has not been judged yet."""
        entries = self.destination if isinstance(self.destination, list) else []
        values = (value for entry in entries if isinstance(entry, dict) for value in entry.values())
        lists = (value for value in values if isinstance(value, list))
        return [one.removeprefix("+") for value in lists for one in value if isinstance(one, str)]


@dataclass(frozen=True, slots=True)
class Door:
    """One API of the platform."""

    path: str
    take: Take
    """Judges a call and takes it; raises Refused."""
    refuse: Refuse
    """A refusal in the API's own envelope, under its own HTTP status or the given one."""


def doors(sandbox: Sandbox) -> tuple[Door, ...]:
    """All APIs; for the status the body is the transid."""
    settings = sandbox.settings

    async def messaging(caller: Caller, body: bytes, how: ScenarioStep | None) -> Answer:
        admit(caller, settings)
        form = (how and how.transids) or settings.transids
        return answers.queued(await sandbox.send(request.read(body, settings), body, MESSAGING, how, form))

    async def messages(caller: Caller, body: bytes, how: ScenarioStep | None) -> Answer:
        admit(caller, settings)
        submission = request.read_v2(body, settings)
        form = (how and how.transids) or settings.transids
        # an answer of v2 has room for one transid
        form = form if form == "suffixed" else "request"
        [transid] = await sandbox.send(submission, body, V2, how, form)
        return answers.v2_queued(transid, submission.correlationid)

    async def events(caller: Caller, body: bytes, how: ScenarioStep | None) -> Answer:
        admit(caller, settings)
        form = (how and how.transids) or settings.transids
        transids = await sandbox.fire(event.read(body, settings), body, how, form)
        return answers.queued(transids, Code.EVENT_QUEUED)

    async def campaigns(caller: Caller, body: bytes, _: ScenarioStep | None) -> Answer:
        admit_campaign(caller, settings)
        return answers.campaign_queued(sandbox.campaign(campaign.read(body), body))

    async def status(caller: Caller, body: bytes, _: ScenarioStep | None) -> Answer:
        admit(caller, settings)
        return Answer(200, msgspec.json.encode(sandbox.status(body.decode())), "found")

    return (
        Door(MESSAGING, messaging, _refuse(answers.MESSAGING, settings)),
        Door(V2, messages, answers.v2_refusal),
        Door(EVENTS, events, _refuse(answers.EVENT, settings)),
        Door(CAMPAIGN, campaigns, _refuse_campaign(settings)),
        Door(STATUS, status, _refuse(answers.MESSAGING, settings)),
    )


async def answer(sandbox: Sandbox, door: Door, caller: Caller, body: bytes) -> tuple[Answer, ScenarioStep | None]:
    """What a call is answered, and the step of the scenario that it meets.

    A call that the platform refuses by itself meets no trouble but slowness.
    """
    peek = _peek(body) if sandbox.scenario.steps else _Peek()
    how = sandbox.scenario.step_for(door.path, peek.deliverychannel, peek.recipients)
    if how is None or how.takes:
        try:
            given = await door.take(caller, body, how)
        except Refused as refused:
            log.info("submission_refused", extra={"code": refused.code})
            sandbox.ledger.answer(door.path, refused.code)
            return door.refuse(refused, None), how and ScenarioStep(slow=how.slow)
    if how is None or not how.fails:
        sandbox.ledger.answer(door.path, given.word)
        return given, how
    given = _scripted(door, how) if how.trouble is None else Answer(200, b"", how.trouble)
    log.info("trouble_met", extra={"trouble": given.word, "taken": how.takes})
    sandbox.ledger.answer(door.path, given.word)
    return given, how


def _scripted(door: Door, how: ScenarioStep) -> Answer:
    """The failure that a step gives; it has a code, an HTTP status, or both."""
    given = door.refuse(Refused(how.code), how.http) if how.code else answers.bare(how.http or 500)
    if how.retry_after is None:
        return given
    return replace(given, headers={**given.headers, "retry-after": str(how.retry_after)})


def _peek(body: bytes) -> _Peek:
    try:
        return msgspec.json.decode(body, type=_Peek)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Peek()


def _refuse(descriptions: Mapping[str, str], settings: SandboxSettings) -> Refuse:
    return lambda refused, status: answers.refusal(refused, descriptions, status or settings.refusal_status)


def _refuse_campaign(settings: SandboxSettings) -> Refuse:
    def refuse(refused: Refused, status: int | None) -> Answer:
        own = 200 if settings.campaign_status == 200 else _OWN_STATUS.get(refused.code, 500)
        return answers.campaign_refusal(refused, status or own)

    return refuse
