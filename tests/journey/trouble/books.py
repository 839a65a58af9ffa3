"""The end of every trouble: what was answered 200 is there exactly once, is believed rightly, and was counted."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.messages.told import Told
from receiver.receipts.receipt import Source, read
from tests.journey.storm import Group, Kept, believed, kept, truth
from tests.journey.trouble.load import Load
from tests.receipts.tellings import assert_books_balance
from tests.support import Database, run

LEDGER = """
select sum(received)::int as received, sum(applied)::int as applied, sum(duplicate)::int as duplicate,
       sum(quarantined)::int as quarantined, sum(forged)::int as forged, sum(late)::int as late from intake
"""
TWICE = """
select count(*) from (
  select from receipt where feed <= 4 and not copied group by fingerprint having count(*) > 1) as twice
"""


@dataclass(frozen=True)
class Counts:
    """What a trouble came to."""

    answers: dict[str, int]
    acknowledged: int
    """Receipts that were answered 200, each counted once."""
    there: int
    messages: int
    quarantined: int
    duplicate: int

    def __str__(self) -> str:
        answers = " ".join(f"{status}:{n}" for status, n in sorted(self.answers.items()))
        return (
            f"answers {answers} | receipts answered 200: {self.acknowledged}, there: {self.there}, told again:"
            f" {self.duplicate} | messages {self.messages} | quarantined {self.quarantined}"
        )


class _Reader:
    """Reads bodies into what they hold."""

    def __init__(self, tenant: TenantId) -> None:
        self._source = Source(tenant, None, datetime.now(UTC))
        self.receipts: dict[bytes, Told] = {}
        self.rejects: set[bytes] = set()
        self.tellings = 0

    def read(self, body: bytes, times: int = 1) -> None:
        reading = read(body, self._source)
        self.receipts |= {told.fingerprint: told for told in reading.receipts}
        self.rejects |= {reject.digest for reject in reading.rejects}
        self.tellings += times * (len(reading.receipts) + len(reading.rejects))


def close_books(database: Database, load: Load, issued: set[UUID]) -> Counts:
    """Asserts all that must hold once the spools are empty; the counts."""
    tenant = database.tenant()
    acknowledged, sent = _Reader(tenant), _Reader(tenant)
    for body in load.acknowledged:
        acknowledged.read(body)
    for body, times in load.sent.items():
        sent.read(body, times)
    found = kept(database)
    _assert_there_once(database, found, acknowledged, sent)
    _assert_believed(found, sent, issued)
    run(_assert_balance(database))
    ledger = dict(database.fetch(LEDGER)[0])
    _assert_counted(database, ledger, acknowledged, sent, len(found.home))
    return Counts(
        dict(load.answers),
        len(acknowledged.receipts),
        len(found.home),
        len(found.states),
        ledger["quarantined"],
        ledger["duplicate"],
    )


def _assert_there_once(database: Database, found: Kept, acknowledged: _Reader, sent: _Reader) -> None:
    there = set(found.home)
    missing = acknowledged.receipts.keys() - there
    assert not missing, [acknowledged.receipts[fingerprint].raw for fingerprint in list(missing)[:5]]
    assert there <= sent.receipts.keys(), "nobody told it"
    assert [homes for homes in found.home.values() if len(homes) != 1] == []
    assert database.value(TWICE) == 0, "a receipt is there twice"


def _assert_believed(found: Kept, sent: _Reader, issued: set[UUID]) -> None:
    groups: dict[UUID | str | None, Group] = {}
    for fingerprint, told in sent.receipts.items():
        name = told.candidate if told.candidate in issued else told.transid
        groups.setdefault(name, Group((str(name), ""), {})).told[fingerprint] = (told, {})
    checked = set()
    for whose, group in groups.items():
        homes = {home for fingerprint in group.told for home in found.home.get(fingerprint, [])}
        assert len(homes) <= 1, group.name
        for home in homes:
            assert whose == home or home not in issued, group.name
            expected = truth(group, found.heard[home], found.own.get(home, []))
            assert believed(found.states[home]) == expected, group.name
            checked.add(home)
    assert checked | issued == set(found.states), "a message of which nobody told"


def _assert_counted(
    database: Database, ledger: dict[str, int], acknowledged: _Reader, sent: _Reader, there: int
) -> None:
    parts = ("applied", "duplicate", "quarantined", "forged", "late")
    assert ledger["received"] == sum(ledger[part] for part in parts), ledger
    assert (ledger["applied"], ledger["forged"], ledger["late"]) == (there, 0, 0), (there, ledger)
    # each telling is counted once, whatever way it took: one that was not answered 200, perhaps
    assert acknowledged.tellings <= ledger["received"] <= sent.tellings, (acknowledged.tellings, ledger, sent.tellings)
    quarantine = {row["digest"]: row["told"] for row in database.fetch("select digest, told from quarantine")}
    assert acknowledged.rejects <= quarantine.keys() <= sent.rejects, "the quarantine is not what was unreadable"
    assert sum(quarantine.values()) == ledger["quarantined"], (sum(quarantine.values()), ledger)


async def _assert_balance(database: Database) -> None:
    connection = await connect(database.dsn, "tests")
    try:
        await assert_books_balance(connection)
    finally:
        await connection.close()
