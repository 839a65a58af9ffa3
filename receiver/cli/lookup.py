"""Finding one message by whichever id a person has at hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from receiver.client import ApiError, Client
from receiver.errors import ReceiverError
from receiver.ids import parse_id

SEARCHED = ("correlationid", "transid", "callbackData", "destination")
MOST_SHOWN = 20


def look_up(client: Client, identity: str) -> Sequence[Mapping[str, Any]]:
    """The message of that id with its timeline, or those that have it as one of their other ids, without.

    Raises ReceiverError where there is none.
    """
    if not identity.strip():
        raise ReceiverError("an empty text is no id")
    if parse_id(identity):
        try:
            return [client.get(identity)]
        except ApiError as error:
            if error.status != 404:
                raise
    for name in SEARCHED:
        found = client.page({name: identity, "limit": MOST_SHOWN})["messages"]
        if found:
            return [client.get(found[0]["id"])] if len(found) == 1 else found
    raise ReceiverError(f"nothing is known of {identity!r}: no message has it as id, {', '.join(SEARCHED)}")


def the_id(client: Client, identity: str) -> str:
    """The id of the one message that is meant. Raises ReceiverError where there is none, or are several."""
    found = look_up(client, identity)
    if len(found) > 1:
        raise ReceiverError(f"several messages have {identity!r}: say which by its id (receiver show {identity})")
    return str(found[0]["id"])
