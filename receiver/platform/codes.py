"""The platform's words and codes as literal tables: what a status proves, what a code means and who can mend it.

Source: the platform's public documents (receipt codes, statuses by channel, answers by API). A status decides what
a receipt proves; a code only says why. No state is ever derived from a code: the two contradict each other in the
platform's own samples.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from receiver.messages.lattice import Channel, Fact


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


CHANNELS: dict[str, Channel] = {
    "sms": Channel.SMS,
    "voice": Channel.VOICE,
    "push": Channel.PUSH,
    "rt": Channel.RT,
    "appmessaging": Channel.RT,
    "inapp": Channel.RT,
    "fb": Channel.MESSENGER,
    "messenger": Channel.MESSENGER,
    "facebook": Channel.MESSENGER,
    "fbmessenger": Channel.MESSENGER,
    "twitter": Channel.TWITTER,
    "wechat": Channel.WECHAT,
    "wa": Channel.WHATSAPP,
    "whatsapp": Channel.WHATSAPP,
    "rcs": Channel.RCS,
    "email": Channel.EMAIL,
    "applebusinesschat": Channel.APPLE,
    "applemessages": Channel.APPLE,
    "applemessagesforbusiness": Channel.APPLE,
    "apple": Channel.APPLE,
    "abc": Channel.APPLE,
    "mms": Channel.MMS,
    "instagram": Channel.INSTAGRAM,
}

# Statuses as letters and digits only, lower case: "Un-Delivered", "UNDELIVERED" and "undelivered" are one word.
STATUSES: dict[str, Fact] = {
    "queued": Fact.ACCEPTED,
    "submitted": Fact.SUBMITTED,
    "submit": Fact.SUBMITTED,
    "submited": Fact.SUBMITTED,
    "sent": Fact.SUBMITTED,
    "delivered": Fact.DELIVERED,
    "read": Fact.READ,
    "seen": Fact.READ,
    "undelivered": Fact.UNDELIVERED,
    "notdelivered": Fact.UNDELIVERED,
    "expired": Fact.UNDELIVERED,
    "rejected": Fact.UNDELIVERED,
    "failed": Fact.FAILED,
    "bounce": Fact.BOUNCED,
    "bounced": Fact.BOUNCED,
    "complaint": Fact.COMPLAINED,
    "complained": Fact.COMPLAINED,
    "notverified": Fact.NOT_VERIFIED,
    "invalid": Fact.INVALID,
    "clicked": Fact.CLICKED,
    "click": Fact.CLICKED,
    "subscribe": Fact.NOTED,
    "unsubscribe": Fact.NOTED,
    "messageexpired": Fact.UNDELIVERED,
    # the relatives of the format: OMA, OneAPI
    "deliveredtoterminal": Fact.DELIVERED,
    "deliveredtonetwork": Fact.SUBMITTED,
    "messagewaiting": Fact.SUBMITTED,
    "deliveryuncertain": Fact.NOTED,
    "deliveryimpossible": Fact.UNDELIVERED,
    "deliverynotificationnotsupported": Fact.NO_RECEIPT,
}

VOICE_STATUSES: dict[str, Fact] = {
    "offered": Fact.SUBMITTED,
    "accepted": Fact.SUBMITTED,
    "answered": Fact.DELIVERED,
    "dropped": Fact.ENDED,
    "released": Fact.ENDED,
    "disconnected": Fact.ENDED,
    "rejected": Fact.UNDELIVERED,
    "noanswer": Fact.UNDELIVERED,
    "busy": Fact.UNDELIVERED,
    "others": Fact.UNDELIVERED,
    "tromboneconnect": Fact.NOTED,
    "tromboneconnected": Fact.NOTED,
    "trombonerelease": Fact.NOTED,
    "trombonereleased": Fact.NOTED,
}


def channel_of(word: str) -> Channel:
    """The channel that the platform's `word` names, in any spelling; OTHER for one that we do not know."""
    return CHANNELS.get(squeeze(word), Channel.OTHER)


def fact_of(channel: Channel, status: str) -> Fact:
    """What `status` proves on `channel`; UNKNOWN for a word that is in no table, and for a list or an object."""
    word = "" if status[:1] in "[{" else squeeze(status)
    if channel is Channel.VOICE and word in VOICE_STATUSES:
        return VOICE_STATUSES[word]
    return STATUSES.get(word, Fact.UNKNOWN)


def squeeze(word: str) -> str:
    """Letters and digits of `word`, lower case; at most 64 of them, for no known word is longer."""
    return _squeezed(word[:128])


@lru_cache(maxsize=1024)  # the same few words in every receipt
def _squeezed(word: str) -> str:
    return "".join(filter(str.isalnum, word)).casefold()[:64]


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

ANSWER_CODES: dict[str, dict[str, Meaning]] = {
    "messaging": {
        **_ENVELOPE,
        "1001": Meaning(Class.UNKNOWN, "The platform has queued the message."),
        "7005": Meaning(Class.TEMPORARY, "The request had expired."),
        "7006": Meaning(Class.TEMPORARY, "The platform had an internal error. Trying again later may work."),
    },
    "event": {
        **{code: _ENVELOPE[code] for code in ("7000", "7001", "7004", "7020")},
        "1002": Meaning(Class.UNKNOWN, "The platform has queued the event."),
        "7005": Meaning(Class.TEMPORARY, "The platform had an internal error. Trying again later may work."),
        "7025": Meaning(Class.CONTENT, "A mandatory custom parameter of the event was missing."),
        "7027": Meaning(Class.CONTENT, "The platform could not read the event as XML."),
    },
    "campaign": {
        "1001": Meaning(Class.CONTENT, "The platform could not read the event as JSON."),
        "1002": Meaning(Class.CONTENT, "A mandatory field of the event was missing."),
        "1003": Meaning(Class.PLATFORM, "The platform had no recommendation available."),
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
    """What the code of an answer says in `api` ("messaging", "event", "campaign"); None for one in no table."""
    return ANSWER_CODES[api].get(code)


def known_code(code: str | None) -> str:
    """`code` if it is in any table, else `other`, or `none`: a metric's label must stay bounded."""
    if not code:
        return "none"
    return code if code in _KNOWN_CODES else "other"


_KNOWN_CODES: frozenset[str] = frozenset().union(_ANY, _SMS, _VOICE, *ANSWER_CODES.values())
