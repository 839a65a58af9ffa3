"""The door for files of receipts: POST /v1/imports. Admins only; the file is read as it comes, and never held whole."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.access.tenants import Tenants
from receiver.database.pool import Pool
from receiver.ids import TenantId, new_id
from receiver.openapi import Operation
from receiver.receipts import imports
from receiver.receipts.export_file import NoExport
from receiver.receipts.importing import Away, Import, Target, bring_in
from receiver.receipts.unpacking import CutOff, Damaged, TooLarge
from receiver.web import JsonResponse, Problem

MOST_AT_ONCE = 2  # imports of a process: as many as it has connections for them
SILENCE_SECONDS = 30.0  # between two parts of a body
BUSY_SECONDS = 30  # after which to ask again while others are imported
START_SECONDS = 5.0
LOOK_SECONDS = 1.0  # between two looks whether this process ends
ENCODINGS = ("", "identity", "gzip", "x-gzip")
CLOSE = {"connection": "close"}  # nobody reads the rest of the body


class ImportReport(msgspec.Struct, kw_only=True):
    """What came of a file. `received` is the sum of the five behind it; `bytes` are those of the file, unpacked."""

    import_id: str
    received: int
    applied: int
    duplicate: int
    late: int
    quarantined: int
    forged: int
    bytes: int
    seconds: float


TYPES = ("application/json", "application/x-ndjson", "text/csv", "application/gzip")
_LINE = (
    '{"deliveryInfoNotification": {"deliveryInfo": {"deliveryChannel": "SMS", "destination": "447700900321", '
    '"deliveryStatus": "Delivered"}, "transid": "3f09295d-7c1e-4a52-9d0e-2f6c3b8a1d44"}}'
)
BODIES = {
    "application/json": [{"df_payload": json.loads(_LINE), "df_status": "2", "df_response_status": "429"}],
}
OPERATIONS = (
    Operation(
        "POST",
        "/v1/imports",
        "import_receipts",
        "A file of receipts: the platform's export of failed notifications, a body a line, or CSV; also with gzip.",
        {200: ("All of it is in, and what came of it.", ImportReport)},
        scope="admin",
        description="It is read as it comes, and answered when all of it is in. Whatever else is answered, what was"
        " read before is in; the same file again reports it as duplicates. The first bytes tell what it is: the"
        " content type is not judged.",
        body={"description": "JSON, NDJSON or CSV, plain or with gzip."},
        body_example=BODIES,
        body_types=TYPES,
        body_required=False,
        codes={
            400: ("not_an_export", "damaged_export"),
            408: ("import_stalled",),
            413: ("import_too_large",),
            415: ("unknown_encoding",),
            429: ("imports_under_way",),
            503: ("import_cut_short",),
        },
        examples={
            200: {
                "import_id": "01a1fda7-9714-779d-a3fc-b1fa03eda994",
                "received": 41_250,
                "applied": 41_180,
                "duplicate": 66,
                "late": 0,
                "quarantined": 4,
                "forged": 0,
                "bytes": 20_871_204,
                "seconds": 9.7,
            }
        },
    ),
)


class _Silent(CutOff):
    """Nothing came for a while."""


class _Gone(CutOff):
    """The client hung up."""


class _Draining(CutOff):
    """This process ends."""


class ImportDoor:
    """The door for files of receipts. It has connections of its own, so that receipts and spool never wait for it."""

    def __init__(
        self,
        pool: Pool,
        keys: Keys,
        tenants: Tenants,
        *,
        most_bytes: int,
        largest: int,
        live: Callable[[], bool] = lambda: False,
        draining: Callable[[], bool] = lambda: False,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        """`most_bytes` bounds a file, packed and unpacked, `largest` one body in it."""
        self._pool, self._keys, self._tenants = pool, keys, tenants
        self._most_bytes, self._largest, self._silence = most_bytes, largest, silence
        self._live, self._draining = live, draining
        self._under_way = 0

    def routes(self) -> list[Route]:
        """The route of this door."""
        return [Route("/v1/imports", self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Reads a file and answers what came of it."""
        caller = await self._keys.require(request, "admin")
        _check_encoding(request)
        if int(request.headers.get("content-length", "0")) > self._most_bytes:
            raise self._too_large("nothing was taken")
        if self._under_way >= MOST_AT_ONCE:
            raise Problem(
                429,
                "imports_under_way",
                f"{MOST_AT_ONCE} imports are under way here: wait for them.",
                headers={"retry-after": str(BUSY_SECONDS), "connection": "close"},
            )
        self._under_way += 1
        try:
            return JsonResponse(await self._import(request, caller.tenant))
        finally:
            self._under_way -= 1

    async def _import(self, request: Request, tenant: TenantId) -> ImportReport:
        began, identity = time.monotonic(), new_id()
        settings = self._tenants.settings_of(tenant)
        zone = settings.zone if settings else UTC
        target = Target(tenant, identity.bytes, zone, self._tenants.names)
        async with asyncio.timeout(START_SECONDS), self._pool.acquire() as connection:
            progress = await imports.start(connection, tenant, identity.bytes, "POST /v1/imports", 0, datetime.now(UTC))
        importing = Import(self._pool, target, progress, live=self._live, stopping=self._draining)
        try:
            chunks = _chunks(request, self._silence, self._draining)
            await bring_in(importing, chunks, self._largest, most_bytes=self._most_bytes)
        except NoExport as error:
            raise Problem(400, "not_an_export", f"That is no export of receipts: {error}.", headers=CLOSE) from None
        except Damaged as error:
            raise Problem(400, "damaged_export", f"{error}: {_taken(importing)}.", headers=CLOSE) from None
        except TooLarge:
            raise self._too_large(_taken(importing)) from None
        except _Silent:
            title = f"Nothing came for {self._silence:g} s: {_taken(importing)}."
            raise Problem(408, "import_stalled", title, headers=CLOSE) from None
        except _Gone:  # nobody reads the answer
            raise Problem(400, "body_cut_off", "The body ended before it was complete.") from None
        except (_Draining, Away) as error:
            why = "This process ends" if isinstance(error, _Draining) else "The database does not answer"
            title = f"{why}: {_taken(importing)}."
            raise Problem(503, "import_cut_short", title, headers={"retry-after": "5", **CLOSE}) from None
        seconds = round(time.monotonic() - began, 3)
        counts = msgspec.structs.asdict(importing.progress.counts)
        return ImportReport(import_id=str(identity), **counts, bytes=importing.bytes_read, seconds=seconds)

    def _too_large(self, taken: str) -> Problem:
        title = f"The file is larger than {self._most_bytes} bytes: {taken}; use `receiver import`, or send parts."
        return Problem(413, "import_too_large", title, headers=CLOSE)


def _check_encoding(request: Request) -> None:
    """Raises Problem 415 for an encoding that is not undone. Of gzip the first bytes tell, whatever the header says."""
    if request.headers.get("content-encoding", "").strip().lower() not in ENCODINGS:
        title = "The body is encoded in a way that is not undone: send it as it is, or with gzip."
        raise Problem(415, "unknown_encoding", title, headers={"accept-encoding": "gzip", **CLOSE})


def _taken(importing: Import) -> str:
    counts = importing.progress.counts
    said = f"{counts.received} receipts and bodies were taken until then"
    return f"{said}; sent again they are duplicates" if counts.received else said


async def _chunks(request: Request, silence: float, draining: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises a CutOff for a client that is gone or silent, and when this process ends."""
    more, silent = True, 0.0
    while more:
        try:
            async with asyncio.timeout(min(LOOK_SECONDS, silence)):
                message = await request.receive()
        except TimeoutError:
            silent += min(LOOK_SECONDS, silence)
            if silent >= silence:
                raise _Silent from None
            message = None
        if draining():
            raise _Draining
        if message is None:
            continue
        if message["type"] == "http.disconnect":
            raise _Gone
        silent = 0.0
        yield message.get("body", b"")
        more = message.get("more_body", False)
