"""The books: whether the ledger balances, and whether the receipts that are there are those that it counted."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from receiver.doctor.check import Installation, Verdict, failure, ok, skipped, warning
from receiver.receipts import ledger
from receiver.receipts.ledger import Count, WeekGone

# The check stands on the table and on each of its partitions.
UNGUARDED = """
select r.oid::regclass::text as name
  from (select 'intake'::regclass::oid as oid union all
        select inhrelid from pg_inherits where inhparent = 'intake'::regclass) r
 where not exists (select from pg_constraint c
                    where c.conrelid = r.oid and c.conname = 'intake_balances' and c.convalidated)
 order by 1
"""
FEW = 2_000_000  # receipts: a second or two
FEW_SECONDS = 20.0
ALL_SECONDS = 1800.0
RUNBOOK = "See docs/runbooks.md, ReceiverLedgerDiffers."


async def balance(installation: Installation) -> Sequence[Verdict]:
    """The last day of the ledger: everything that was received came to one of five ends."""
    until = installation.now()
    async with (
        installation.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        unguarded = [row["name"] for row in await connection.fetch(UNGUARDED)]
        found = await ledger.sums(connection, until - timedelta(days=1), until + timedelta(days=1))
    if not ledger.balances(found):
        return [failure("what was received in the last day is not what became of it", RUNBOOK)]
    if unguarded:
        cure = "Somebody took it away: add the constraint intake_balances again, as in migrations/sql/0001_tables.sql."
        return [failure(f"{', '.join(unguarded)} may hold rows that do not balance", cure)]
    received, applied = (sum(figures[name] for figures in found.values()) for name in ("received", "applied"))
    return [ok(f"it balances: {received} received in the last day, {applied} of them applied")]


async def counted(installation: Installation) -> Sequence[Verdict]:
    """All receipts, counted anew where they are few or it was asked for; else the last count that was stored."""
    async with installation.connection() as connection:
        last, about = await ledger.last(connection), await ledger.estimate(connection)
        if not installation.full and about > FEW:
            return [_stored(installation, last, about)]
        seconds = ALL_SECONDS if installation.full else FEW_SECONDS
        try:
            async with asyncio.timeout(seconds):
                found = await ledger.count(connection, seconds, now=installation.now, progress=installation.progress)
        except WeekGone:
            return [skipped("a week was dropped while it counted: run it again")]
        except TimeoutError:
            return [skipped(f"not within {seconds:.0f} s: run it with --full when it is quieter")]
    return [_judged(found, f"counted just now, in {found.seconds:.1f} s")]


def _stored(installation: Installation, last: Count | None, about: int) -> Verdict:
    hours = installation.chosen.ledger_check_hours
    if last is None:
        return skipped(f"about {about} receipts, and nobody has counted them yet: `receiver doctor --full` does")
    age = installation.now() - last.at
    verdict = _judged(last, f"counted {age.total_seconds() / 3600:.0f} hours ago")
    if hours and age > timedelta(hours=2 * hours) and not last.difference:
        cure = "See ledger_not_checked in the log of who has the role upkeep; `receiver doctor --full` counts now."
        return warning(f"the last count is {age.days} days old", cure)
    return verdict


def _judged(found: Count, when: str) -> Verdict:
    if not found.difference:
        return ok(f"{found.receipts} receipts, as the ledger has it; {when}")
    what = (
        f"{found.difference} receipts are missing"
        if found.difference > 0
        else f"{-found.difference} receipts are there that the ledger did not count"
    )
    return failure(f"{what} ({found.receipts} receipts, {found.counted} counted; {when})", RUNBOOK)
