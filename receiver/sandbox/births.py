"""From what a call asks for to the messages that its receipts speak of."""

import random
from collections.abc import Sequence

from receiver.sandbox import crowd, script
from receiver.sandbox.campaign import CampaignEvent
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.event import Child, Event
from receiver.sandbox.receipt import Message
from receiver.sandbox.request import Submission, Value


def of_value(submission: Submission, value: Value, transid: str, dice: Sequence[float]) -> Message:
    """The message to one value of a Messaging request."""
    return Message(
        channel=submission.channel,
        destination=value.value.removeprefix("+") if value.id_type == "msisdn" else value.value,
        id_type=value.id_type,
        transid=transid,
        callback_data=submission.callback_data,
        correlationid=value.correlationid,
        parts=submission.parts,
        carrier=script.carrier(dice),
    )


def of_child(event: Event, child: Child, transid: str, dice: Sequence[float], roll: random.Random) -> Message:
    """A message that the flow of an event sends; a recipient that is not named is made up."""
    made_up, id_type = crowd.recipient(FAMILIES[child.channel].recipient, roll)
    destination = child.destination or made_up
    return Message(
        channel=child.channel,
        destination=destination.removeprefix("+") if id_type == "msisdn" else destination,
        id_type=id_type,
        transid=transid,
        callback_data="",
        correlationid=event.correlationid,
        parts=1,
        carrier=script.carrier(dice),
    )


def of_event(event: Event, transid: str) -> Message:
    """The entry of an event itself in the ledger: it has no recipient, and no receipt speaks of it alone."""
    return Message("event", event.evtid, "evtid", transid, "", event.correlationid, 1, "")


def of_campaign(event: CampaignEvent, transaction_id: str) -> Message:
    """The entry of a Webex Campaign event in the ledger."""
    return Message("campaign", event.event_key, "event-key", transaction_id, "", "", 1, "")
