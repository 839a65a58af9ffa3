"""The Python client of a receiver: small, typed, and what the command line itself uses. See docs/client.md."""

from receiver.client.awaiting import AsyncClient
from receiver.client.blocking import Client
from receiver.client.change_shapes import Change, StreamEvent
from receiver.client.errors import ApiError, CannotResume, Garbled, NoAnswer
from receiver.client.explain_shapes import Explanation
from receiver.client.exporting import Format
from receiver.client.figure_shapes import Batch, Deliveries
from receiver.client.message_shapes import Look, Message, MessageWithTimeline, Page, Sent
from receiver.client.place import DEFAULT_URL
from receiver.client.waiting import Outcome, Until, Waited

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "AsyncClient",
    "Batch",
    "CannotResume",
    "Change",
    "Client",
    "Deliveries",
    "Explanation",
    "Format",
    "Garbled",
    "Look",
    "Message",
    "MessageWithTimeline",
    "NoAnswer",
    "Outcome",
    "Page",
    "Sent",
    "StreamEvent",
    "Until",
    "Waited",
]
