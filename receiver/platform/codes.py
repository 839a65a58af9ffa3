"""The platform's codes as literal tables: what a code means and who can mend it. Its words are in words.py.

Source: the platform's public documents (receipt codes, answers by API). A status decides what a receipt proves; a code
only says why. No state is ever derived from a code: the two contradict each other in the platform's own samples.
"""

import re
from dataclasses import dataclass
from enum import IntEnum

from receiver.messages.lattice import Channel
from receiver.platform.words import CHANNELS as CHANNELS
from receiver.platform.words import STATUSES as STATUSES
from receiver.platform.words import VOICE_STATUSES as VOICE_STATUSES
from receiver.platform.words import channel_of as channel_of
from receiver.platform.words import fact_of as fact_of
from receiver.platform.words import squeeze as squeeze


class Class(IntEnum):
    """Who can mend a failure. The numbers are stored."""

    UNKNOWN = 0
    RECIPIENT = 1
    CONTENT = 2
    POLICY = 3
    CONFIGURATION = 4
    TEMPORARY = 5
    PLATFORM = 6

    @property
    def word(self) -> str:
        """The class as clients and metrics read it."""
        return self.name.lower()


@dataclass(frozen=True)
class Meaning:
    """What a code says: who can mend it, and a plain sentence for a support agent."""

    failure_class: Class
    sentence: str


_ANY: dict[str, Meaning] = {
    "7003": Meaning(Class.CONTENT, "A mandatory field of the message was missing."),
    "7004": Meaning(Class.CONTENT, "A field of the message had a value that the platform does not allow."),
    "7005": Meaning(Class.TEMPORARY, "The request expired on the platform before it was sent."),
    "7006": Meaning(Class.TEMPORARY, "The platform had an internal error. Trying again later may work."),
    "7104": Meaning(Class.CONFIGURATION, "The app id of the message is not valid. The set-up must be corrected."),
    "7105": Meaning(Class.RECIPIENT, "The platform has no customer profile for this recipient."),
    "7108": Meaning(Class.CONFIGURATION, "The message template is not valid. It must be corrected or approved."),
    "7200": Meaning(Class.PLATFORM, "The platform reports a failure without a status that it knows."),
    "7208": Meaning(Class.TEMPORARY, "The message expired before it could be delivered."),
    "7240": Meaning(Class.RECIPIENT, "An earlier e-mail to this address bounced, so this one was not sent."),
    "7241": Meaning(Class.POLICY, "The address is on the platform's list of those who unsubscribed."),
    "7314": Meaning(Class.CONFIGURATION, "The application details that the message was sent with are not valid."),
    "7404": Meaning(Class.TEMPORARY, "It did not succeed, for another reason."),
    "7500": Meaning(Class.UNKNOWN, "The message was delivered."),
    "7501": Meaning(Class.UNKNOWN, "The message was handed to the operator."),
    "7502": Meaning(Class.UNKNOWN, "The message was read."),
    "7519": Meaning(Class.UNKNOWN, "The call was answered."),
    "7520": Meaning(Class.RECIPIENT, "The e-mail bounced."),
    "7521": Meaning(Class.RECIPIENT, "The recipient marked the e-mail as unwanted."),
    "7522": Meaning(Class.CONFIGURATION, "The address or the sender is not verified."),
    "7523": Meaning(Class.RECIPIENT, "The e-mail address is not valid."),
    "7528": Meaning(Class.UNKNOWN, "A link in the message was clicked."),
    "7740": Meaning(Class.CONTENT, "The media in the message could not be used."),
    "9002": Meaning(Class.POLICY, "The recipient has not consented to receive this message."),
    **{
        str(code): Meaning(Class.POLICY, "The contact policy forbids this message to this recipient.")
        for code in (9000, 9001, 9003, 9004, 9005, 9006, 9007, 9008, 9009, 9010)
    },
}

_SMS: dict[str, Meaning] = {
    "7101": Meaning(
        Class.CONFIGURATION, "The sender id is not valid for this route. The sender must be registered or changed."
    ),
    "7102": Meaning(Class.RECIPIENT, "The number is not a valid address. Check the recipient's number."),
    "7107": Meaning(Class.CONTENT, "The message is too long."),
    "7109": Meaning(Class.POLICY, "The number is on a do-not-disturb list."),
    "7111": Meaning(Class.CONTENT, "The operator took the message for spam."),
    "7201": Meaning(Class.TEMPORARY, "The message failed at the operator. Trying again later may work."),
    "7202": Meaning(Class.TEMPORARY, "The message failed at the platform. Trying again later may work."),
    "7203": Meaning(Class.RECIPIENT, "The operator does not know this number. It is probably no longer in use."),
    "7204": Meaning(Class.TEMPORARY, "There was not enough credit for the message."),
    "7205": Meaning(Class.CONTENT, "The binary content of the message is faulty."),
    "7206": Meaning(Class.TEMPORARY, "The memory of the recipient's SIM or phone is full."),
    "7207": Meaning(Class.TEMPORARY, "The phone was switched off or out of coverage."),
    "7208": Meaning(Class.TEMPORARY, "The message expired before the phone could be reached."),
    "7209": Meaning(Class.TEMPORARY, "A part of the message was not delivered."),
    "7210": Meaning(Class.CONFIGURATION, "The billing of the account is not configured for this message."),
    "7211": Meaning(Class.CONFIGURATION, "The billing of the account is not configured for this message."),
    "7283": Meaning(Class.RECIPIENT, "The number is a landline, which can't receive text messages."),
    "7302": Meaning(Class.TEMPORARY, "More messages were sent than the rate limit allows."),
    "7607": Meaning(Class.CONTENT, "This type of message is not allowed on this route."),
    "7720": Meaning(Class.POLICY, "The message was blocked."),
}

_VOICE: dict[str, Meaning] = {
    "7401": Meaning(Class.TEMPORARY, "Nobody answered the call."),
    "7402": Meaning(Class.TEMPORARY, "The line was busy."),
    "7404": Meaning(Class.TEMPORARY, "The call did not succeed, for another reason."),
    "7406": Meaning(Class.RECIPIENT, "The call was rejected."),
    "7407": Meaning(Class.UNKNOWN, "The call was offered to the network."),
    "7408": Meaning(Class.UNKNOWN, "The network accepted the call."),
    "7409": Meaning(Class.UNKNOWN, "The call was dropped."),
    "7410": Meaning(Class.UNKNOWN, "The call was disconnected."),
    "7411": Meaning(Class.UNKNOWN, "The call was connected to a second line."),
    "7412": Meaning(Class.UNKNOWN, "The second line was released."),
}

RECEIPT_CODES: dict[Channel | None, dict[str, Meaning]] = {None: _ANY}
RECEIPT_CODES |= {Channel.SMS: _SMS, Channel.MMS: _SMS, Channel.VOICE: _VOICE}

_ENVELOPE: dict[str, Meaning] = {
    "7000": Meaning(Class.CONTENT, "The platform could not read the request as JSON."),
    "7001": Meaning(Class.CONFIGURATION, "The platform did not accept the service key."),
    "7002": Meaning(Class.CONFIGURATION, "The service key was missing from the request."),
    "7003": Meaning(Class.CONTENT, "A mandatory field of the request was missing."),
    "7004": Meaning(Class.CONTENT, "A field of the request had a value that the platform does not allow."),
    "7007": Meaning(Class.CONFIGURATION, "The service is not active on the platform."),
    "7009": Meaning(Class.CONTENT, "The request had more than 1,000 destinations."),
    "7020": Meaning(Class.TEMPORARY, "The platform's limit of transactions was reached."),
}

_MESSAGING: dict[str, Meaning] = {
    **_ENVELOPE,
    "1001": Meaning(Class.UNKNOWN, "The platform has queued the message."),
    "7005": Meaning(Class.TEMPORARY, "The request had expired."),
    "7006": Meaning(Class.TEMPORARY, "The platform had an internal error. Trying again later may work."),
}

# By the word of the api that was called: one code means different things.
ANSWER_CODES: dict[str, dict[str, Meaning]] = {
    "messaging": _MESSAGING,
    "messaging_v2": _MESSAGING,
    "events": {
        # 7002, 7006 and 7007 are documented for Messaging alone; here they can mean nothing else.
        **{code: _ENVELOPE[code] for code in ("7000", "7001", "7002", "7004", "7007", "7020")},
        "1002": Meaning(Class.UNKNOWN, "The platform has queued the event."),
        "7005": Meaning(Class.TEMPORARY, "The platform had an internal error. Trying again later may work."),
        "7006": _MESSAGING["7006"],
        "7025": Meaning(Class.CONTENT, "A mandatory custom parameter of the event was missing."),
        "7027": Meaning(Class.CONTENT, "The platform could not read the event as XML."),
    },
    "campaign": {
        "1001": Meaning(Class.CONTENT, "The platform could not read the event as JSON."),
        "1002": Meaning(Class.CONTENT, "A mandatory field of the event was missing."),
        "1003": Meaning(Class.PLATFORM, "The platform had no recommendation available."),
        "401": Meaning(Class.CONFIGURATION, "Webex Campaign did not accept the token, or it has expired."),
        "403": Meaning(Class.CONFIGURATION, "The token is not allowed to send events to Webex Campaign."),
        "404": Meaning(Class.CONFIGURATION, "There is no Webex Campaign at the address that is set."),
        "405": Meaning(Class.CONFIGURATION, "What is at the address that is set takes no events of Webex Campaign."),
        "429": Meaning(Class.TEMPORARY, "More events were sent to Webex Campaign than its rate limit allows."),
        "430": Meaning(Class.CONFIGURATION, "Webex Campaign did not accept the token."),
        "498": Meaning(Class.CONFIGURATION, "The token for Webex Campaign is not valid, or it has expired."),
        "499": Meaning(Class.PLATFORM, "Webex Campaign failed to process the event."),
        "500": Meaning(
            Class.PLATFORM, "Webex Campaign had an internal error. It may have taken the event all the same."
        ),
        "502": Meaning(Class.PLATFORM, "A gateway of Webex Campaign had no answer. The event may have been taken."),
    },
}

# E-mail bounces tell their cause in the description.
BOUNCES: dict[str, Meaning] = {
    "permanent_general": Meaning(Class.RECIPIENT, "The recipient's mail server refused the e-mail for good."),
    "permanent_noemail": Meaning(Class.RECIPIENT, "There is no such e-mail address."),
    "permanent_suppressed": Meaning(Class.POLICY, "The address is on the platform's suppression list."),
    "transient_general": Meaning(Class.TEMPORARY, "The recipient's mail server refused the e-mail for now."),
    "transient_mailboxfull": Meaning(Class.TEMPORARY, "The recipient's mailbox is full."),
    "transient_messagetoolarge": Meaning(Class.CONTENT, "The e-mail is too large for the recipient's mail server."),
    "transient_contentrejected": Meaning(Class.CONTENT, "The recipient's mail server refused the e-mail's content."),
    "transient_attachmentrejected": Meaning(Class.CONTENT, "The recipient's mail server refused an attachment."),
}
_PERMANENT_SMTP = ("smtp;5", "smtp; 5")

# WhatsApp tells its cause in the additional information, as `(#131049) | text`: the codes are Meta's.
CAUSES: dict[str, Meaning] = {
    "130429": Meaning(Class.TEMPORARY, "More WhatsApp messages were sent than the rate limit allows."),
    "131026": Meaning(Class.RECIPIENT, "The number can't receive it: not on WhatsApp, or an old version of it."),
    "131042": Meaning(Class.CONFIGURATION, "The payment of the WhatsApp account is not set up."),
    "131047": Meaning(Class.CONTENT, "The recipient has not written for 24 hours: only a template may be sent."),
    "131049": Meaning(Class.POLICY, "WhatsApp held it back: this recipient gets too many marketing messages."),
    "131050": Meaning(Class.POLICY, "The recipient has stopped marketing messages from this sender."),
    "131056": Meaning(Class.TEMPORARY, "Too many messages to this recipient in a short time."),
    "132001": Meaning(Class.CONFIGURATION, "The WhatsApp template does not exist, or is not approved."),
    "132015": Meaning(Class.CONFIGURATION, "The WhatsApp template is paused for its low quality."),
}
_CAUSE = re.compile(r"\s{0,9}\(#(\d{1,7})\)")


CAUSE_BESIDE = frozenset([Channel.EMAIL, Channel.WHATSAPP])  # whose cause may stand in the texts beside the code


def receipt_meaning(channel: Channel, code: str, description: str = "", additional: str = "") -> Meaning | None:
    """What a receipt's code says on `channel`, or the cause beside it; None for a code that is in no table."""
    if channel is Channel.EMAIL and (bounce := BOUNCES.get(description[:128].strip().casefold())):
        if bounce is BOUNCES["transient_general"] and any(mark in additional.casefold() for mark in _PERMANENT_SMTP):
            return BOUNCES["permanent_general"]
        return bounce
    if channel is Channel.WHATSAPP and (told := _CAUSE.match(additional) or _CAUSE.match(description)):
        return CAUSES.get(told[1]) or _ANY.get(code)
    own = RECEIPT_CODES.get(channel, _SMS if channel is Channel.OTHER else _ANY)
    return own.get(code) or _ANY.get(code)


def answer_meaning(api: str, code: str) -> Meaning | None:
    """What the code of an answer says in the api with the word `api` (apis.Api.word); None for one in no table."""
    return ANSWER_CODES[api].get(code)


def known_code(code: str | None) -> str:
    """`code` if it is in any table, else `other`, or `none`: a metric's label must stay bounded."""
    if not code:
        return "none"
    return code if code in _KNOWN_CODES else "other"


_KNOWN_CODES: frozenset[str] = frozenset().union(_ANY, _SMS, _VOICE, *ANSWER_CODES.values())
