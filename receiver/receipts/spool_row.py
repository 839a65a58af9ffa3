"""A row of a spool file: an arrival with what tells whether it is still what was written."""

import zlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from receiver.ids import SubmissionId
from receiver.receipts.arrival import Arrival

EPOCH = datetime.fromtimestamp(0, UTC)

Written = tuple[bytes, str, bytes | None, int, str, bytes, int, bool]
"""key, tenant, submission, microseconds since the epoch, headers, body, checksum, whether it drains apart"""
Row = tuple[int, bytes, str, bytes | None, int, str, bytes, int, bool]
"""The same behind its number."""


class Wrong(Exception):
    """A row that is not what was written."""


def row_of(key: UUID, arrival: Arrival, apart: bool) -> Written:
    """What is written of an arrival."""
    submission = arrival.submission_id.bytes if arrival.submission_id else None
    received = (arrival.received_at - EPOCH) // timedelta(microseconds=1)
    headers = arrival.kept_headers()
    checksum = _checksum(key.bytes, arrival.tenant, submission, received, headers, arrival.body)
    return key.bytes, arrival.tenant, submission, received, headers, arrival.body, checksum, apart


def arrival_of(row: Row) -> Arrival:
    """The arrival of a row. Raises Wrong."""
    _, key, tenant, submission, received, headers, body, checksum, _ = row
    try:
        if len(key) == 16 and _checksum(key, tenant, submission, received, headers, body) == checksum:
            identity = SubmissionId(UUID(bytes=submission)) if submission else None
            return Arrival(tenant, identity, EPOCH + timedelta(microseconds=received), body, kept=headers)
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass
    raise Wrong


def _checksum(key: bytes, tenant: str, submission: bytes | None, received: int, headers: str, body: bytes) -> int:
    head = b"%b\0%b\0%b\0%d\0%b\0" % (key, tenant.encode(), submission or b"", received, headers.encode())
    return zlib.crc32(body, zlib.crc32(head))
