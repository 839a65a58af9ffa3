"""The change log added up into `cohort_state` and `cohort_lag`: what one snapshot sees and an earlier one did not.

Adding up and remembering how far it came are one transaction, and the row of `folded` is locked first: each change
counts once, whoever folds or dies. docs/decisions/0021-statistics.md
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from receiver.database.pool import Connection
from receiver.ids import first_id_at
from receiver.messages.cells import COLUMNS, DIGITS, NAMES
from receiver.messages.log_steps import changes_of_step, end_of_step
from receiver.upkeep.outcomes import Moved

MOST = 50_000  # changes of one step: less than half a second
FEW = 200  # transactions of 256 receipts at most: no need to look how many changes they wrote
HELD_MILLISECONDS = 500  # that writers wait at most for a count of everything, beside the 200 for their lock
LONG_SECONDS = 600  # a day of messages, or a week of the log, when all is counted anew

# Who finds it locked leaves it: somebody folds. A later statement has a later snapshot than this row.
LOCK = """
select f.snapshot::text as snapshot, f.floor_seq, f.cluster = p.system_identifier as is_settled
  from folded f, pg_control_system() p
   for update of f skip locked
"""

_COLUMNS = """message_id, tenant, origin, channel, country, old_state, new_state, old_class, new_class, old_conflict,
            new_conflict, old_lags, new_lags, told_lag, old_carrier, new_carrier, feed"""
LONGEST = 128  # characters of a sender or a template: the key of a row must fit into an index
SEEN = f"""
  select floor(minted_v1(c.message_id) / 3600)::bigint as hour, c.tenant, c.origin, c.channel,
         coalesce(c.country, '') as country, c.old_state, c.new_state,
         case when c.old_state between 40 and 46 or c.old_state = 65
              then coalesce(c.old_class, 0) else 0 end as old_class,
         case when c.new_state between 40 and 46 or c.new_state = 65
              then coalesce(c.new_class, 0) else 0 end as new_class,
         coalesce(c.old_conflict, false) as old_conflict, coalesce(c.new_conflict, false) as new_conflict,
         case when c.origin = 2 or c.old_state is null then 0 else coalesce(c.old_lags, 0) end as old_lags,
         case when c.origin = 2 or c.new_state is null then 0 else coalesce(c.new_lags, 0) end as new_lags,
         c.told_lag, nullif(c.old_carrier, '') as old_carrier, nullif(c.new_carrier, '') as new_carrier,
         left(nullif(m.sender, ''), {LONGEST}) as sender, left(nullif(m.template, ''), {LONGEST}) as template, c.feed
    from ({changes_of_step(_COLUMNS)}) c
    left join lateral (      -- who was only observed has neither
      select i.sender, i.template from message i where i.id = c.message_id and c.origin <> 2 offset 0) m on true
"""
# All messages of a span of ids as if they had just been born as they are.
STANDING = f"""
  select floor(minted_v1(s.id) / 3600)::bigint as hour, s.tenant, s.origin, s.channel,
         coalesce(s.country, '') as country,
         null::smallint as old_state, s.state as new_state, 0 as old_class,
         case when s.state between 40 and 46 or s.state = 65 then coalesce(s.reason_class, 0) else 0 end as new_class,
         false as old_conflict, s.conflict as new_conflict, 0 as old_lags,
         case when s.origin = 2 then 0 else s.lags end as new_lags, null::smallint as told_lag,
         null::text as old_carrier, nullif(s.carrier, '') as new_carrier,
         left(nullif(m.sender, ''), {LONGEST}) as sender, left(nullif(m.template, ''), {LONGEST}) as template
    from message_state s left join message m on m.id = s.id and m.id >= $1 and m.id < $2 and s.origin <> 2
   where s.id >= $1 and s.id < $2 and s.merged_into is null
"""
# How late we were told: no message remembers it, the log does.
TOLD = f"""
  select floor(minted_v1(c.message_id) / 3600)::bigint as hour, c.tenant, c.origin, c.channel,
         coalesce(c.country, '') as country, null::smallint as old_state, null::smallint as new_state, 0 as old_class,
         0 as new_class, false as old_conflict, false as new_conflict, 0 as old_lags, 0 as new_lags, c.told_lag,
         null::text as old_carrier, nullif(c.new_carrier, '') as new_carrier,
         left(nullif(m.sender, ''), {LONGEST}) as sender, left(nullif(m.template, ''), {LONGEST}) as template
    from change c left join message m on m.id = c.message_id and c.origin <> 2
   where c.at >= $1 and c.at < $2 and c.told_lag is not null
"""

_KIND = "({0}, case when (s.old_lags # s.new_lags) >> {1} & 255 <> 0 then s.{2}_lags >> {1} & 255 end, {3})"
_KINDS = ", ".join(
    _KIND.format(kind, shift, which, n)
    for kind, shift in ((1, 0), (2, 8), (3, 16))
    for which, n in (("old", -1), ("new", 1))
)
_OF_CARRIER = ", ".join(
    f"(s.{which}_carrier, {kind}, s.{which}_lags >> {shift} & 255, {n})"
    for kind, shift in ((1, 0), (2, 8), (3, 16))
    for which, n in (("old", -1), ("new", 1))
)
_BASE = "s.hour, s.tenant, s.origin, s.channel, s.country"
_OLD, _NEW = "s.old_state, s.old_class, s.old_conflict", "s.new_state, s.new_class, s.new_conflict"
_COUNTED = f"""select {_BASE}, {{0}} as side, {{1}} as old_value, {{2}} as new_value, {_OLD}, {_NEW},
         count(*)::integer as n
    from seen s
   where ({_OLD}, {{1}}) is distinct from ({_NEW}, {{2}}) and {{3}} group by {_BASE}, 7, 8, {_OLD}, {_NEW}"""
# Of each hour and day, and of all countries together beside each one, as far as their week is kept.
_SPREAD = """
   cross join lateral (values (c.side, c.country), (case c.side when 0 then 4 end, '')) e(side, country)
   cross join lateral (values (to_timestamp(c.hour * 3600), 1), (to_timestamp(c.hour / 24 * 86400), 24)) w(at, hours)
   where e.side is not null
     and date_trunc('week', w.at at time zone 'UTC')::date = any(array(select k.starts_on from week k))
"""
KEY = "tenant, hours, side, value, at, channel, country, origin"
_SUM = "coalesce(sum(v.n) filter (where v.place = {0}), 0)::integer"
_SUMS = ", ".join(_SUM.format(column.state * 8 + column.code_class) for column in COLUMNS)
_ONE = f"('1e' || {DIGITS} * k.class)::numeric"  # of a class, in a number of cohort_lag
ADD_UP = f"""
with seen as materialized ({{seen}}),
counted as (
  {_COUNTED.format(0, "''", "''", "true")}
  union all {_COUNTED.format(1, "s.sender", "s.sender", "s.sender is not null")}
  union all {_COUNTED.format(2, "s.template", "s.template", "s.template is not null")}
  union all {_COUNTED.format(3, "s.old_carrier", "s.new_carrier", "coalesce(s.old_carrier, s.new_carrier) is not null")}
),
messages as (
  insert into cohort_state as t ({KEY}, conflict, {", ".join(NAMES)})
  select c.tenant, w.hours, e.side, v.value, w.at, c.channel, e.country, c.origin, v.conflict, {_SUMS}
    from counted c
   cross join lateral (values (c.old_value, c.old_state * 8 + c.old_class, c.old_conflict, -c.n),
                              (c.new_value, c.new_state * 8 + c.new_class, c.new_conflict, c.n))
         v(value, place, conflict, n)
   {_SPREAD} and v.place is not null and v.value is not null
   group by 1, 2, 3, 4, 5, 6, 7, 8, 9
   order by 1, 2, 3, 4, 5, 6, 7, 8, 9
  on conflict ({KEY}, conflict) do update
     set {", ".join(f"{name} = t.{name} + excluded.{name}" for name in NAMES)}
),
lagged as (
  select {_BASE}, e.side, e.value, k.kind, sum(k.n) * {_ONE} as counts
    from seen s
   cross join lateral (values {_KINDS}, (4, s.told_lag, 1)) k(kind, class, n)
   cross join lateral (values (0, ''), (1, s.sender), (2, s.template)) e(side, value)
   where (s.old_lags <> s.new_lags or s.told_lag is not null) and k.class > 0 and e.value is not null
   group by {_BASE}, e.side, e.value, k.kind, k.class
  union all
  select {_BASE}, 3, k.value, k.kind, sum(k.n) * {_ONE}
    from seen s
   cross join lateral (values {_OF_CARRIER}, (s.new_carrier, 4, s.told_lag, 1)) k(value, kind, class, n)
   where coalesce(s.old_carrier, s.new_carrier) is not null and k.class > 0 and k.value is not null
     and (s.old_lags <> s.new_lags or s.told_lag is not null or s.old_carrier is distinct from s.new_carrier)
   group by {_BASE}, k.value, k.kind, k.class
),
lags as (
  insert into cohort_lag as t ({KEY}, kind, counts)
  select c.tenant, w.hours, e.side, c.value, w.at, c.channel, e.country, c.origin, c.kind, sum(c.counts)
    from lagged c {_SPREAD} and c.counts <> 0
   group by 1, 2, 3, 4, 5, 6, 7, 8, 9
   order by 1, 2, 3, 4, 5, 6, 7, 8, 9
  on conflict ({KEY}, kind) do update set counts = t.counts + excluded.counts
)
"""
# What was read comes back: what moved of ours, as `outcomes` counts it, and in one row without a tenant all else.
# Senders that have no label ($5) are one: there may be as many as messages. What we read anew (6: own) is no news.
FOLD = f"""{ADD_UP.format(seen=SEEN)},
done as (update folded set snapshot = $2::text::pg_snapshot, at = $4)
select m.tenant, m.channel, m.country, m.sender, m.feed, m.hour, m.old_state, m.new_state, count(*) as n
  from seen s
  left join lateral (
    select s.tenant, s.channel, s.country, s.feed,
           case when $5::text[] is null or s.sender is null or s.sender = any($5) then s.sender else '' end as sender,
           case when s.feed = 2 then s.hour end as hour, s.old_state, s.new_state
     where s.origin = 1 and s.new_state is distinct from s.old_state and s.new_state > 5
       and (s.feed is distinct from 6 or s.new_state = 30)) m on true
 group by 1, 2, 3, 4, 5, 6, 7, 8
"""
COUNT = "select count(*) from seen"
COUNT_STANDING, COUNT_TOLD = ADD_UP.format(seen=STANDING) + COUNT, ADD_UP.format(seen=TOLD) + COUNT

# Nobody writes to the log while the snapshot is taken: all up to `floor_seq` is in it, and nothing above. Rolled back
# to the savepoint, the lock is gone and the snapshot of the transaction stays; so are the limits that were set behind
# it. Who is stopped in between holds up all receipts: half a second, then Postgres hangs up on him.
HOLD_WRITERS = """
set local lock_timeout = '200ms'; savepoint writers; set local statement_timeout = '{0}ms';
set local idle_in_transaction_session_timeout = '{0}ms'; lock table only change in share mode
"""
STAND = "select pg_current_snapshot()::text as snapshot, coalesce(max(seq), 0) as floor_seq, now() as at from change"
LET_WRITERS = "rollback to savepoint writers; set local statement_timeout = '{0}s'; set local lock_timeout = '1s'"
TAKE = "select 1 from folded for update nowait"
EMPTY = "delete from {0}"
WEEKS = "select starts_on from week order by starts_on"
SETTLE = """
update folded set cluster = p.system_identifier, snapshot = $1::text::pg_snapshot, floor_seq = $2, at = $3
  from pg_control_system() p
"""


class Unsettled(Exception):
    """Restored into another cluster: how far it had come means nothing here, and all is to be counted."""


@dataclass(frozen=True)
class Step:
    """What one step did: how many changes, up to when the log is folded now, and whether there is more."""

    changes: int
    at: datetime
    more: bool
    moved: Sequence[Moved] = ()


async def fold(connection: Connection, most: int = MOST, senders: Sequence[str] | None = None) -> Step | None:
    """Adds up what has come into the log, `most` changes or one transaction's more. None: another process does.

    With `senders`, these alone are told by name in what moved. Raises Unsettled, and what Postgres says: then nothing
    was done.
    """
    async with connection.transaction():
        folded = await connection.fetchrow(LOCK)
        if folded is None:
            return None
        if not folded["is_settled"]:
            raise Unsettled
        before, floor = folded["snapshot"], folded["floor_seq"]
        end = await end_of_step(connection, before, floor, most, FEW)
        rows = await connection.fetch(FOLD, before, end.snapshot, floor, end.at, senders)
    moved = [Moved(*row) for row in rows if row["tenant"] is not None]
    return Step(sum(row["n"] for row in rows), end.at, end.more, moved)


async def recount(connection: Connection) -> Step:
    """Counts all messages that are kept anew, in one snapshot; writers wait while it is taken, and no longer.

    Raises what Postgres says, also that others hold what it needs: then nothing was done.
    """
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(HOLD_WRITERS.format(HELD_MILLISECONDS))
        stand = await connection.fetchrow(STAND)
        assert stand is not None
        await connection.execute(LET_WRITERS.format(LONG_SECONDS))
        await connection.execute(TAKE)
        for table in ("cohort_state", "cohort_lag"):
            await connection.execute(EMPTY.format(table), timeout=LONG_SECONDS)
        messages = 0
        for row in await connection.fetch(WEEKS):
            monday = datetime(row["starts_on"].year, row["starts_on"].month, row["starts_on"].day, tzinfo=UTC)
            for day in (monday + timedelta(days=n) for n in range(7)):
                bounds = first_id_at(day), first_id_at(day + timedelta(days=1))
                messages += await connection.fetchval(COUNT_STANDING, *bounds, timeout=LONG_SECONDS)
            await connection.fetchval(COUNT_TOLD, monday, monday + timedelta(weeks=1), timeout=LONG_SECONDS)
        await connection.execute(SETTLE, stand["snapshot"], stand["floor_seq"], stand["at"])
    return Step(messages, stand["at"], more=True)
