"""The sentences of an explanation: which rule a receipt met, how it was joined, why it changed nothing."""

from receiver.messages.lattice import FAMILIES, RANK, Channel, Fact, State
from receiver.messages.told import Feed
from receiver.platform.words import VOICE_STATUSES, fact_of, squeeze

FEEDS = {
    Feed.PUSH: "The platform told it at the receipts door.",
    Feed.IMPORT: "It was imported from a file of receipts.",
    Feed.POLL: "We asked the platform.",
    Feed.REPLAY: "It was replayed from the quarantine.",
    Feed.ANSWER: "It is the platform's answer to our call.",
    Feed.OWN: "It is our own word.",
}
JOINED = {
    1: ("our_id", "Our id came back as its correlationid."),
    2: ("notifyurl", "It came in by the notifyurl of this message's submission."),
    3: ("key", "By its key: transid, flow node (subtid) and destination."),
    4: ("first", "It was the first word of this message: nobody had told of it before."),
}
KNOWN = {
    Feed.POLL: ("asked", "We asked the platform about this message."),
    Feed.ANSWER: ("answer", "The answer to our call for this message."),
    Feed.OWN: ("own", "Our own word on this message."),
}
NOT_KEPT = ("not_kept", "How it was joined was not kept.")
ERASED = "erased"  # in place of what named a person


def joined(how: int, feed: Feed) -> tuple[str, str]:
    """How a receipt's message was found: a stable word and a sentence."""
    return JOINED.get(how) or KNOWN.get(feed, NOT_KEPT)


def rule(channel: Channel, feed: Feed, status: str, code: str | None, fact: Fact) -> tuple[str, str, str]:
    """The word that was looked up, the table that has it, and the rule as a sentence."""
    proves = f"proves {name_of(fact)}, {_rank(fact)}"
    if feed is Feed.ANSWER:
        said = f"The answer with the code {code}" if code else "The answer"
        return status, "answers", f"{said} {proves}."
    if feed is Feed.OWN:
        return status, "own", f"Our own word {status} {proves}."
    word = squeeze(status)
    now = fact_of(channel, status)
    if status == ERASED and now is not fact:
        return word, "erased", f"The word was erased with the person that it named; it {proves}."
    table = "voice" if channel is Channel.VOICE and word in VOICE_STATUSES else "all"
    if now is Fact.UNKNOWN:
        table = "none"
    if now is not fact:
        text = f"When it was read, {word} on {channel.word} {proves}; today it would prove {name_of(now)}."
        return word, table, f"{text} A re-read takes up what today's tables say."
    if fact is Fact.UNKNOWN:
        return word, table, f"{word or 'An empty status'} is in no table for {channel.word}: it proves nothing."
    beside = f" The code {code} only says why: no state is derived from a code." if code else ""
    return word, table, f"On {channel.word} {word} {proves}.{beside}"


def name_of(fact: Fact) -> str:
    """A fact as the documentation names it."""
    return (fact.name or "none").lower()


def _rank(fact: Fact) -> str:
    state = RANK[fact]
    return "a fact without rank" if state is State.QUEUED else f"the state {state.word} ({int(state)})"


def why(kind: str, fact: Fact, before: State, elsewhere: bool, copied: bool) -> str:
    """Why a receipt changed the state, or why not, and what else is to be known of it."""
    rank = RANK[fact]
    text = {
        "raised": f"It raised the state: {int(rank)} is higher than {before.word} ({int(before)}).",
        "repeated": f"It changed no state: {name_of(fact)} was known already, and the state is {before.word}.",
        "lower": f"It changed no state: {rank.word} ({int(rank)}) is lower than {before.word} ({int(before)}).",
        "no_rank": f"It changed no state: {name_of(fact)} is a fact without rank, kept and counted.",
        "unknown_status": "It changed no state: its status is in no table. It is kept, and never taken for a failure.",
    }[kind]
    if elsewhere:
        text += " It tells of another destination than the one that was asked for."
    if copied:
        text += " It was told of an observed message that turned out to be this one, and was copied from there."
    return text


# What orders reasons, in the order in which it is compared: lattice.reason_key.
_ORDER = ("the rank of its state", "having a code", "a code of a known class", "its fingerprint")


def reason_outcome(before: bytes | None, told: bytes | None) -> tuple[str, str] | None:
    """Whether a negative fact became the reason, or lost against the one before, and by what; None for other facts."""
    if told is None:
        return None
    if before is None:
        return "won", "It is the reason from now on: there was none before."
    if told == before:
        return "same", "It is the reason already."
    parts = [(key[0], key[1], key[2], key[3:]) for key in (told, before)]
    by = next(cause for cause, mine, other in zip(_ORDER, *parts, strict=True) if mine != other)
    if told > before:
        return "won", f"It is the reason from now on: it won over the one before by {by}."
    return "lost", f"The reason stays the one before: this one lost by {by}."


def contradiction(channel: Channel, positive: Fact, negative: Fact) -> str:
    """Why two facts of one leg are a conflict."""
    normal = " and ".join(sorted(f"{name_of(p)} with {name_of(n)}" for p, n in FAMILIES[channel].normal)) or "none"
    pair = f"One leg was told both {name_of(positive)} and {name_of(negative)}"
    return f"{pair}, which {channel.word} does not list as normal (it lists {normal})."
