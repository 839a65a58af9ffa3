"""The keeper's door to the ledger: GET /v1/ledger. Admins only, for it is the whole installation's."""

from datetime import UTC, datetime, timedelta

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics
from receiver.access.keys import Keys
from receiver.asked_time import asked_time
from receiver.database.pool import Pool
from receiver.openapi import TIME, Operation, Parameter
from receiver.receipts import ledger
from receiver.receipts.ledger import Count, Sums
from receiver.receipts.spool import Spool
from receiver.web import FieldError, JsonResponse, Problem

DEFAULT_SPAN = timedelta(days=1)
LONGEST_SPAN = timedelta(days=31)
STARTED = datetime.now(UTC)  # of this process, about: since when its metrics count

PARAMETERS = {
    "from": "Committed at or after this time (RFC 3339, with a zone); a day before `to` by default.",
    "to": f"Committed before this time; now by default. {LONGEST_SPAN.days} days after `from` at most.",
}


class FeedFigures(msgspec.Struct):
    """What one feed brought: received = applied + duplicate + quarantined + forged + late."""

    feed: str
    groups: int
    received: int
    applied: int
    duplicate: int
    quarantined: int
    forged: int
    late: int


class SpoolFigures(msgspec.Struct):
    """What waits in the spool of the process that answered."""

    bodies: int
    bytes: int
    oldest_seconds: float


class RefusedFigures(msgspec.Struct):
    """What the receipts door of the process that answered refused since it started; the platform tells it again."""

    since: datetime
    total: int
    by_code: dict[str, int]


class Beside(msgspec.Struct):
    """What is not in the ledger, of the process that answered alone. `spool` null: it has none."""

    spool: SpoolFigures | None
    refused_at_the_door: RefusedFigures


class CheckFigures(msgspec.Struct):
    """The last independent check."""

    at: datetime
    difference: int
    receipts: int
    counted: int
    seconds: float


class LedgerAnswer(msgspec.Struct):
    """The ledger of a span of time, in one moment."""

    from_: datetime = msgspec.field(name="from")
    to: datetime
    feeds: list[FeedFigures]
    balanced: bool
    check: CheckFigures | None
    beside: Beside


_NOTHING = {"received": 0, "applied": 0, "duplicate": 0, "quarantined": 0, "forged": 0, "late": 0}
_PUSHED = {"received": 48_213, "applied": 47_802, "duplicate": 398, "quarantined": 9, "forged": 0, "late": 4}
EXAMPLE = {
    "from": "2026-11-20T00:00:00Z",
    "to": "2026-11-21T00:00:00Z",
    "feeds": [{"feed": "push", "groups": 10_421, **_PUSHED}, {"feed": "import", "groups": 0, **_NOTHING}],
    "balanced": True,
    "check": {
        "at": "2026-11-20T23:10:02Z",
        "difference": 0,
        "receipts": 5_120_331,
        "counted": 5_120_331,
        "seconds": 4.2,
    },
    "beside": {
        "spool": {"bodies": 0, "bytes": 0, "oldest_seconds": 0.0},
        "refused_at_the_door": {"since": "2026-11-18T07:00:00Z", "total": 3, "by_code": {"401": 3}},
    },
}

OPERATIONS = (
    Operation(
        "GET",
        "/v1/ledger",
        "get_ledger",
        "What became of everything that each feed brought, over all tenants, and whether it balances.",
        {200: ("The figures of the span, at one moment.", LedgerAnswer)},
        scope="admin",
        description="A row of the ledger has no tenant: an admin of any tenant sees the sum of all. `beside` is of the"
        " process that answers.",
        parameters=[Parameter(name, meaning, schema=TIME) for name, meaning in PARAMETERS.items()],
        examples={200: EXAMPLE},
    ),
)


class LedgerDoor:
    """The door to the ledger. A row of it has no tenant, so it takes the scope `admin`, of whichever tenant."""

    def __init__(self, pool: Pool, keys: Keys, spool: Spool | None) -> None:
        self._pool, self._keys, self._spool = pool, keys, spool

    def routes(self) -> list[Route]:
        """The route of this door."""
        return [Route("/v1/ledger", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """The figures of the span that was asked for."""
        await self._keys.require(request, "admin")
        since, until = read_span(request.query_params, datetime.now(UTC))
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found, check = await ledger.sums(connection, since, until), await ledger.last(connection)
        beside = Beside(_spooled(self._spool), _refused())
        answer = LedgerAnswer(since, until, _feeds(found), ledger.balances(found), _check(check), beside)
        return JsonResponse(answer)


def read_span(parameters: QueryParams, now: datetime) -> tuple[datetime, datetime]:
    """[from, to). Raises Problem 400 naming every parameter that is wrong."""
    names = dict.fromkeys(name for name, _ in parameters.multi_items())
    errors = [
        FieldError(name[:64], "unknown_parameter", f"it takes {', '.join(PARAMETERS)}")
        for name in names
        if name not in PARAMETERS
    ][:100]
    errors += [
        FieldError(name, "bad_parameter", "it takes one value")
        for name in PARAMETERS
        if len(parameters.getlist(name)) > 1
    ]
    until = asked_time("to", parameters.get("to"), errors) or now
    since = asked_time("from", parameters.get("from"), errors) or until - DEFAULT_SPAN
    if not errors and since >= until:
        errors.append(FieldError("to", "bad_parameter", "it is not after `from`"))
    elif not errors and until - since > LONGEST_SPAN:
        errors.append(FieldError("from", "bad_parameter", f"it is more than {LONGEST_SPAN.days} days before `to`"))
    if errors:
        raise Problem(400, "bad_parameter", "A parameter is wrong.", errors)
    return since, until


def _feeds(found: Sums) -> list[FeedFigures]:
    return [FeedFigures(feed.word, **figures) for feed, figures in found.items()]


def _check(check: Count | None) -> CheckFigures | None:
    if check is None:
        return None
    return CheckFigures(check.at, check.difference, check.receipts, check.counted, round(check.seconds, 3))


def _spooled(spool: Spool | None) -> SpoolFigures | None:
    return None if spool is None else SpoolFigures(spool.bodies, spool.bytes, round(spool.age, 3))


def _refused() -> RefusedFigures:
    [family] = metrics.NOTIFY_RESPONSES.collect()
    by_code = {
        sample.labels["code"]: int(sample.value)
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["code"] != "200" and sample.value
    }
    return RefusedFigures(STARTED, sum(by_code.values()), dict(sorted(by_code.items())))
