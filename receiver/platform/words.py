"""The platform's words as literal tables: which channel one names, and what a status proves on it.

Source: the platform's public documents (statuses by channel), and those of the format's relatives.
"""

from functools import lru_cache

from receiver.messages.lattice import Channel, Fact

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
