"""Reading an element of the platform's export by a short way: the body that could not be pushed, in its wrapper.

It only ever does what `receipt.read` does, for the usual body in the usual wrapper; all else is left to it.
"""

from typing import Any

import msgspec

from receiver.receipts.receipt import Reading, Source, read
from receiver.receipts.texts import told_of
from receiver.receipts.usual import usual

_BEGINNING = b'{"df_'


class _Element(msgspec.Struct, forbid_unknown_fields=True):
    df_payload: msgspec.Raw
    df_status: Any = None
    df_status_text: Any = None
    df_response_status: Any = None


_decode = msgspec.json.Decoder(_Element).decode


def read_exported(body: bytes, source: Source) -> Reading:
    """As `read`. Nothing raises."""
    if body.startswith(_BEGINNING):
        try:
            short = usual(bytes(_decode(body).df_payload))
            if short is not None:
                texts, identity = short
                return Reading([told_of(texts, False, identity, source, body)])
        except Exception:  # it may be readable all the same, and if not, `read` says why
            return read(body, source)
    return read(body, source)
