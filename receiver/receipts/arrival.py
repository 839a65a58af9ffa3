"""What came in at the receipts door, as it came: spooled when it must be, and read again when it drains."""

import json
from bisect import bisect_right
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
    """What drains together: in one transaction, which `key` names in the ledger."""

    seq: int
    """The number in the spool file up to which it goes."""
    key: UUID
    arrivals: list[Arrival]
    numbers: list[int]
    """Of each of them in the spool file, rising."""
    is_one_group: bool
    """Whether all of it was spooled together: then all of it is in where the ledger has its key."""

    def up_to(self, seq: int) -> "Unit":
        """What of it stands at `seq` or before."""
        count = bisect_right(self.numbers, seq)
        seq = min(seq, self.seq)
        return self._replace(seq=seq, arrivals=self.arrivals[:count], numbers=self.numbers[:count])


def kept_headers(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The headers worth keeping beside a quarantined body, as JSON; none that can hold a secret."""
    kept = {k.decode("latin-1"): v.decode("latin-1")[:200].replace("\0", "") for k, v in headers if k in KEPT_HEADERS}
    return json.dumps(kept)
