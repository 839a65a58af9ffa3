"""The platform's export of notifications that it failed to tell, as its documents show it."""

from collections.abc import Iterable, Iterator

import msgspec

from receiver.sandbox.ledger import Record
from receiver.sandbox.parcel import Kind

_WORDS = {
    "lost": ("HTTP Status 500", "500"),
    "timeout": ("Read timed out", ""),
    "not_read": ("Read timed out", ""),
    "unreachable": ("Connection refused", ""),
    "not_sent": ("Connect timed out", ""),
    "": ("Internal error", ""),
}


def entries(records: Iterable[Record]) -> Iterator[bytes]:
    """One entry for each body of a receipt that was lost, dropped or given up, with what it met last.

    What a forger told, and what can't be read, the platform never had to tell.
    """
    for record in records:
        for telling in record.tellings:
            if telling.kind is not Kind.RECEIPT:
                continue
            for met in telling.failures:
                text, status = _WORDS.get(met, (f"HTTP Status {met}", met))
                words = b'"df_status":"2","df_status_text":%s,"df_response_status":%s' % (
                    msgspec.json.encode(text),
                    msgspec.json.encode(status),
                )
                yield b'{"df_payload":%s,%s}' % (telling.plain(), words)
