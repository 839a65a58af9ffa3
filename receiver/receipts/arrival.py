"""What came in at the receipts door, as it came: spooled when it must be, and read again when it drains."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from receiver.ids import SubmissionId

KEPT_HEADERS = frozenset({b"content-type", b"content-length", b"user-agent", b"x-wx-gtrid"})


class Arrival(NamedTuple):
    """One body, whose it is and when it came. `hidden` is the header that must not be kept: it holds a secret."""

    tenant: str
    submission_id: SubmissionId | None
    received_at: datetime
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    hidden: bytes | None = None
    kept: str | None = None

    def kept_headers(self) -> str:
        """The headers worth keeping beside the body, as JSON; none that can hold a secret."""
        if self.kept is not None:
            return self.kept
        return kept_headers([(name, value) for name, value in self.headers if name != self.hidden])


class Unit(NamedTuple):
    """What was spooled together and drains together: in one transaction, which `key` names in the ledger."""

    seq: int
    """Of its last arrival in the spool file."""
    key: UUID
    arrivals: list[Arrival]


def kept_headers(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The headers worth keeping beside a quarantined body, as JSON; none that can hold a secret."""
    kept = {k.decode("latin-1"): v.decode("latin-1")[:200].replace("\0", "") for k, v in headers if k in KEPT_HEADERS}
    return json.dumps(kept)
