"""Steps through the change log: of what one snapshot sees and an earlier one did not, as much as is good at once.

The snapshot up to which a step goes is stored by its caller, in the same transaction as what came of it.
docs/decisions/0021-statistics.md
"""

from datetime import datetime
from typing import NamedTuple

from receiver.database.pool import Connection

_BY_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin',
  'enable_memoize']) as n(name)
"""
_LOOK = """
select s.s1::text as snapshot, statement_timestamp() as at,
       pg_snapshot_xmax($1::text::pg_snapshot)::text::bigint as begin,
       pg_snapshot_xmax(s.s1)::text::bigint as until
  from (select pg_current_snapshot() as s1) s
"""
# Where a step ends that would be too large. seq + 0: no reason to walk the log in the order of seq.
_END_OF_STEP = """
select c.xid::text::bigint as xid, c.at from change c
 where c.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and c.xid < pg_snapshot_xmax($2::text::pg_snapshot)
   and c.seq + 0 > $3
 order by c.xid offset $4 limit 1
"""
_SEEN = "pg_visible_in_snapshot(i.xid, $2::text::pg_snapshot)", "i.seq + 0 > $3"
# What $1 did not see began later, or was in flight then: two looks into the index by xid, whatever else is old.
_TWO_LOOKS = """
    (select {columns} from change i
      where i.xid >= pg_snapshot_xmax($1::text::pg_snapshot) and i.xid < pg_snapshot_xmax($2::text::pg_snapshot)
        and {seen} offset 0)
    union all
    (select {columns} from change i
      where i.xid = any(array(select pg_snapshot_xip($1::text::pg_snapshot)))
        and {seen} offset 0)"""


class End(NamedTuple):
    """Where a step ends: up to what `snapshot` sees, which is as of `at`; and whether there is more behind it."""

    snapshot: str
    at: datetime
    more: bool


async def end_of_step(connection: Connection, before: str, floor: int, most: int, few: int) -> End:
    """Where the step ends that begins behind the snapshot `before`: at the present, or after some `most` changes.

    What one transaction wrote is never parted. Changes numbered up to `floor` do not count. Of `few` transactions
    nobody looks how many changes they wrote. For the rest of the caller's transaction, tables are read by index.
    """
    await connection.execute(_BY_INDEX)
    look = await connection.fetchrow(_LOOK, before)
    assert look is not None
    if look["until"] - look["begin"] > min(few, most):
        end = await connection.fetchrow(_END_OF_STEP, before, look["snapshot"], floor, most)
        if end is not None:
            snapshot = cut(look["snapshot"], max(end["xid"], look["begin"] + 1))
            return End(snapshot, min(end["at"], look["at"]), more=True)
    return End(look["snapshot"], look["at"], more=False)


def changes_of_step(columns: str, *also: str) -> str:
    """SQL that reads these columns of what the snapshot $2 sees, $1 did not, and $3 is numbered below.

    `also`: further conditions on the change `i`.
    """
    return _TWO_LOOKS.format(columns=columns, seen=" and ".join((*_SEEN, *also)))


def cut(snapshot: str, xid: int) -> str:
    """The snapshot as it would be if no transaction from `xid` on had begun."""
    flying = [one for one in snapshot.rpartition(":")[2].split(",") if one and int(one) < xid]
    return f"{flying[0] if flying else xid}:{xid}:{','.join(flying)}"
