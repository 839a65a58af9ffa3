"""A file as it is read: gzip and UTF-16 are undone, in chunks, and no more is held than one of them."""

import codecs
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator

CHUNK = 16 * 1024  # bytes at most of what a chunk was packed into: all of one is cut before others get their turn
GZIP = b"\x1f\x8b"


class CutOff(Exception):
    """The file ends here though it is not whole: what went before is good."""


class Damaged(CutOff):
    """The packed file can't be unpacked any further."""


class TooLarge(CutOff):
    """It has more bytes than may be."""


class Unpacker:
    """Hands on chunks as they are, or unpacked: the first bytes tell."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._gzip = False
        self._inflate: zlib._Decompress | None = None
        self._decode: codecs.IncrementalDecoder | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a position in what comes out is one in the file; known after the first two bytes."""
        return not self._gzip and self._decode is None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What is in `chunk`. Raises Damaged."""
        if self._head is not None:
            self._head += chunk
            if len(self._head) < len(GZIP):
                return
            chunk, self._head = self._head, None
            self._gzip = chunk.startswith(GZIP)
            if self._gzip:
                self._inflate = zlib.decompressobj(wbits=31)
            elif chunk.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                self._decode = codecs.getincrementaldecoder("utf-16")("replace")
        if self._gzip:
            yield from self._inflated(chunk)
        elif self._decode:
            yield self._decode.decode(chunk).encode("utf-8", "surrogatepass")
        else:
            yield chunk

    def end(self) -> Iterator[bytes]:
        """What is left when the file has ended. Raises Damaged for one that is not whole."""
        if self._head:
            yield self._head
        if self._inflate is not None:
            raise Damaged("the gzip ends before it is complete")
        if self._decode:
            yield self._decode.decode(b"", final=True).encode("utf-8", "surrogatepass")

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._inflate is None:
                chunk = chunk.lstrip(b"\0")
                if not chunk.startswith(GZIP[:1]):  # what stands behind a gzip is nobody's
                    return
                self._inflate = zlib.decompressobj(wbits=31)
            try:
                out = self._inflate.decompress(chunk, CHUNK)
            except zlib.error:
                raise Damaged("the gzip is damaged") from None
            chunk = self._inflate.unconsumed_tail
            if self._inflate.eof:
                chunk, self._inflate = self._inflate.unused_data, None
            if out:
                yield out
