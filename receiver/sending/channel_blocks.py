"""The blocks of `channels`: which one each delivery channel demands, and the rules that the platform states for it.

What is not named here passes through unread: blocks of other channels, and fields that the documents do not know.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from receiver.messages.lattice import Channel
from receiver.sending.fields import Broken, is_empty, name_of, plain, size

LONGEST_SMS = 1_024  # bytes, as all of these
LONGEST_PUSH = 4_096
LONGEST_TWEET = 140

SMS_TYPES = ("1", "2", "3", "4")
BINARY = "3"
PUSH_PLATFORMS = {"ios": LONGEST_PUSH, "android": LONGEST_PUSH, "windows": None, "web": None}
ANDROID_PRIORITIES = ("1", "2", "3", "4", "5")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_NUMERIC = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*")


@dataclass(frozen=True)
class Block:
    """An object of the body and where it stands. A template may say what a block does not."""

    fields: dict[str, Any]
    pointer: str
    has_template: bool
    broken: Broken

    def at(self, key: str) -> str:
        """The pointer to a field."""
        return f"{self.pointer}/{key}"

    def has(self, key: str) -> bool:
        """Whether a field is given and not empty."""
        return not is_empty(self.fields.get(key))

    def inner(self, key: str) -> "Block | None":
        """The object under `key`; None if it is not given, or is no object: noted."""
        value = self.fields.get(key)
        if isinstance(value, dict):
            return Block(value, self.at(key), self.has_template, self.broken)
        if self.has(key):
            self.broken.wrong(self.at(key), f"{key} must be an object")
        return None

    def text(self, key: str, longest: int | None = None) -> str | None:
        """A field that must be a string, `longest` bytes at most."""
        value = self.fields.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.broken.wrong(self.at(key), f"{key} must be a string")
            return None
        if longest is not None and size(value) > longest:
            self.broken.wrong(self.at(key), f"{key} has {size(value)} bytes, {longest:,} at most")
        return value

    def name(self, key: str) -> str | None:
        """A field that must be a string or a whole number, as it will be stored; None if it is empty."""
        if not self.has(key):
            return None
        found = name_of(self.fields[key])
        if found is None:
            self.broken.wrong(self.at(key), f"{key} must be a string")
            return None
        return plain(found, self.at(key), self.broken)

    def demand(self, *keys: str) -> None:
        """Notes that none of `keys` is given, where no template speaks for them."""
        if not self.has_template and not any(self.has(key) for key in keys):
            self.broken.missing(self.at(keys[0]), f"it needs {' or '.join(keys)}, or a template")

    def demand_something(self) -> None:
        """Notes that the block is empty, where no template speaks for it."""
        if not self.has_template and not self.fields:
            self.broken.missing(self.pointer, "the block says nothing, and there is no template")


def _sms(block: Block) -> str | None:
    kind = "1" if block.fields.get("type") in (None, "") else name_of(block.fields["type"])
    if kind not in SMS_TYPES:
        block.broken.wrong(block.at("type"), "type is 1 text, 2 flash, 3 binary or 4 unicode")
    if kind == BINARY:
        _binary(block)
    else:
        block.demand("text")
    block.text("text", LONGEST_SMS)
    sender = block.text("senderid")
    return block.name("senderid") if sender else None


def _binary(block: Block) -> None:
    value = block.fields.get("body")
    if value in (None, ""):
        block.demand("body")
    elif not isinstance(value, str) or not _HEX.fullmatch(value):
        block.broken.wrong(block.at("body"), "body must be hex digits, two a byte")
    elif len(value) // 2 > LONGEST_SMS:
        block.broken.wrong(block.at("body"), f"body has {len(value) // 2} bytes, {LONGEST_SMS:,} at most")


def _voice(block: Block) -> str | None:
    """The documents contradict each other on callflowid beside promptid: that is sent as given."""
    given = [key for key in ("callflowid", "media", "promptid") if block.has(key)]
    if not given and not block.has_template:
        block.broken.missing(block.pointer, "a call needs callflowid, media or promptid")
    if "media" in given and len(given) > 1:
        others = " and ".join(key for key in given if key != "media")
        block.broken.wrong(block.at("media"), f"media can't be given beside {others}")
    for key in given:
        if key != "media" or not isinstance(block.fields[key], dict):
            block.name(key)
    return block.name("cli")


def _push(block: Block) -> str | None:
    block.demand_something()
    for key, longest in PUSH_PLATFORMS.items():
        if platform := block.inner(key):
            platform.text("text", longest)
    android = block.fields.get("android")
    priority = android.get("priority") if isinstance(android, dict) else None
    if priority not in (None, "") and name_of(priority) not in ANDROID_PRIORITIES:
        block.broken.wrong(block.at("android/priority"), "the priority of android is 1 to 5")
    return None


def _appmessaging(block: Block) -> str | None:
    block.demand_something()
    block.text("text")
    return block.name("senderid")


def _ott(block: Block, *words: str) -> Block | None:
    """The sub-block of the network that is meant; its absence is noted."""
    for word in words:
        if block.has(word) or isinstance(block.fields.get(word), dict):
            return block.inner(word)
    block.broken.missing(block.at(words[0]), f"there is no block {words[0]}")
    return None


def _messenger(block: Block) -> str | None:
    if fb := _ott(block, "fb", "Messenger"):
        fb.demand("text", "attachment", "sender_action")
        fb.text("text")
    return None


def _twitter(block: Block) -> str | None:
    if twitter := _ott(block, "twitter"):
        twitter.demand("text")
        twitter.text("text", LONGEST_TWEET)
    return None


def _whatsapp(block: Block) -> str | None:
    """Newer documents have a `type`, whose content stands under its own name, and `text` as an object."""
    if wa := _ott(block, "wa"):
        kind = wa.fields.get("type")
        if not isinstance(kind, str) or kind in ("", "text"):
            wa.demand("text")
        if not isinstance(wa.fields.get("text"), dict):
            wa.text("text")
    return None


def _wechat(block: Block) -> str | None:
    if wechat := _ott(block, "wechat"):
        wechat.demand("text", "attachment")
        wechat.text("text")
    return None


@dataclass(frozen=True)
class Way:
    """How a delivery channel is asked for: its block, the check of it (which returns the sender), smart links."""

    channel: Channel
    block: str
    check: Callable[[Block], str | None]
    takes_smartlinks: bool = True


_OTT = "OTT-Messaging"
WAYS: dict[str, Way] = {
    "sms": Way(Channel.SMS, "sms", _sms),
    "voice": Way(Channel.VOICE, "voice", _voice, takes_smartlinks=False),
    "push": Way(Channel.PUSH, "push", _push, takes_smartlinks=False),
    "rt": Way(Channel.RT, "appmessaging", _appmessaging),
    "appmessaging": Way(Channel.RT, "appmessaging", _appmessaging),
    "fb": Way(Channel.MESSENGER, _OTT, _messenger),
    "twitter": Way(Channel.TWITTER, _OTT, _twitter),
    "wa": Way(Channel.WHATSAPP, _OTT, _whatsapp),
    "wechat": Way(Channel.WECHAT, _OTT, _wechat),
}


def check_channels(body: dict[str, Any], word: str | None, has_template: bool, broken: Broken) -> str | None:
    """Checks the block that the delivery channel `word` demands (None: unknown); returns the sender."""
    channels = body.get("channels")
    if channels in (None, ""):
        broken.missing("/channels", "channels is mandatory")
        return None
    if not isinstance(channels, dict):
        broken.wrong("/channels", "channels must be an object with one block a channel")
        return None
    if word is None:
        return None
    way = WAYS[word]
    if way.takes_smartlinks:
        _smartlinks(channels.get("smartlinks"), broken)
    value = channels.get(way.block)
    pointer = f"/channels/{way.block}"
    if value in (None, ""):
        broken.missing(pointer, f"deliverychannel is {word}, and there is no block {way.block}")
        return None
    if not isinstance(value, dict):
        broken.wrong(pointer, f"the block {way.block} must be an object")
        return None
    return way.check(Block(value, pointer, has_template, broken))


def _smartlinks(links: Any, broken: Broken) -> None:
    pointer = "/channels/smartlinks"
    if is_empty(links) and not isinstance(links, dict):
        return
    if not isinstance(links, list):
        broken.wrong(pointer, "smartlinks must be an array")
        return
    for index, link in enumerate(links):
        if not isinstance(link, dict):
            broken.wrong(f"{pointer}/{index}", "a smart link must be an object")
            continue
        linkid, validity = link.get("linkid"), link.get("validity")
        if is_empty(linkid):
            broken.missing(f"{pointer}/{index}/linkid", "linkid is mandatory")
        elif name_of(linkid) is None:
            broken.wrong(f"{pointer}/{index}/linkid", "linkid must be a string")
        if validity not in (None, "") and not _is_number(validity):
            broken.wrong(f"{pointer}/{index}/validity", "validity is a number of minutes")


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _NUMERIC.fullmatch(value) is not None
    return isinstance(value, int | float | msgspec.Raw) and not isinstance(value, bool)
