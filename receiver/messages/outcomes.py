"""What became of a message, in four groups of states: what routes and senders are compared by."""

from receiver.messages.lattice import NEGATIVE_STATES, POSITIVE_STATES, State

ACCEPTED, DELIVERED, FAILED, NO_RECEIPT = "accepted", "delivered", "failed", "no_receipt"
NEVER_SENT = frozenset({State.CANCELLED, State.EXPIRED})

# Queued, uncertain, and what was never sent is in none of them.
OUTCOME: dict[int, str] = {
    **dict.fromkeys((State.ACCEPTED, State.SUBMITTED, State.ENDED), ACCEPTED),
    State.NO_RECEIPT: NO_RECEIPT,
    **dict.fromkeys(NEGATIVE_STATES - NEVER_SENT, FAILED),
    **dict.fromkeys(POSITIVE_STATES, DELIVERED),
}


def came_into(old: int | None, new: int) -> str | None:
    """The group that a message comes into with this change of its state, from another group or from none."""
    outcome = OUTCOME.get(new)
    return None if old is not None and OUTCOME.get(old) == outcome else outcome
