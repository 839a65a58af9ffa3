"""Messages of ours with real answers and receipts, as the service stores and counts them, and its figures."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from receiver import metrics
from receiver.database.pool import Connection
from receiver.ids import MessageId, SubmissionId, TenantId, new_id
from receiver.messages.changes import count
from receiver.messages.lattice import Channel, Fact
from receiver.messages.store import apply_known
from receiver.messages.told import Feed, told_by_us
from receiver.platform.apis import Api
from receiver.receipts.counting import CLASSES
from receiver.receipts.group import store
from receiver.receipts.receipt import Source, read
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.support import Database, now

_numbers = itertools.count(1)
_names = itertools.count(1)

Figures = dict[tuple[str, ...], float]


@dataclass
class Service:
    """A tenant with a name that no other test has: the figures of a process are one for all tests."""

    connection: Connection
    tenant: TenantId
    name: str = field(default_factory=lambda: f"measured-{next(_names)}")

    @property
    def names(self) -> Mapping[TenantId, str]:
        return {self.tenant: self.name}

    async def send(self, numbers: Sequence[str], sender: str | None = None) -> list[MessageId]:
        """Messages of one submission, in the outbox."""
        asked = tuple(Asked("msisdn", number, number, None) for number in numbers)
        request = Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, sender, None, 2, None, None)
        accepted = await outbox.accept(self.connection, self.tenant, request, now())
        return [identity for identity, _ in accepted.messages]

    async def answer(
        self, messages: Sequence[MessageId], fact: Fact = Fact.ACCEPTED, at: datetime | None = None
    ) -> None:
        """The platform's answer, stored and counted as the settler does it."""
        told = [
            told_by_us(
                tenant=self.tenant,
                submission_id=SubmissionId(new_id()),
                message_id=message,
                channel=Channel.SMS,
                destination="447700900123",
                fact=fact,
                fingerprint=next(_numbers).to_bytes(16, "big"),
                at=at or now(),
                status=str(fact.name),
                code=None,
                code_class=0,
                description=None,
                transid=f"T-{message}",
                raw=b"{}",
            )
            for message in messages
        ]
        async with self.connection.transaction():
            changes = await apply_known(self.connection, at or now(), Feed.ANSWER, messages, told)
        count(changes, Feed.ANSWER, self.names, {}, CLASSES)

    async def tell(self, infos: Sequence[Mapping[str, Any]], feed: Feed = Feed.PUSH) -> None:
        """Receipts, read, stored and counted as intake does it."""
        bodies = [json.dumps({"deliveryInfoNotification": {"deliveryInfo": info}}).encode() for info in infos]
        readings = [read(body, Source(self.tenant, None, now())) for body in bodies]
        receipts = [told for reading in readings for told in reading.receipts]
        assert len(receipts) == len(infos)
        stored = await store(self.connection, new_id(), feed, receipts, ())
        stored.count(feed, self.names)


def info(message: MessageId, status: str, number: str, at: datetime | None = None, **more: str) -> dict[str, Any]:
    """A deliveryInfo of a message of ours."""
    said = {
        "deliveryChannel": "SMS",
        "deliveryStatus": status,
        "destination": number,
        "transid": f"T-{message}",
        "correlationid": str(message),
        **more,
    }
    return said | ({"timeStamp": at.isoformat()} if at else {})


def figures(metric: Any, of: str) -> Figures:
    """The values of a counter or gauge by their other labels in alphabetical order, of one tenant; none that is 0."""
    return {
        tuple(value for _, value in sorted(sample.labels.items()) if _ != "tenant"): sample.value
        for family in metric.collect()
        for sample in family.samples
        if sample.labels.get("tenant") == of and sample.value and not sample.name.endswith("_created")
    }


def times(metric: Any, of: str, channel: str = "sms") -> tuple[float, float]:
    """How often a histogram was observed, and the sum of seconds."""
    [name] = [family.name for family in metric.describe()]
    labels = {"channel": channel, "tenant": of} if of else {"channel": channel}
    value = metrics.REGISTRY.get_sample_value
    return value(f"{name}_count", labels) or 0.0, value(f"{name}_sum", labels) or 0.0


SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def tenant_of(database: Database) -> TenantId:
    """A tenant's number."""
    return database.tenant()
