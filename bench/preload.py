"""A database as it is after sixty days: so many messages with twice as many receipts, spread over their weeks.

Made by SQL, a week at a time on each connection. What is looked up later is issued by `bench.issued` among them, with
the digests that the receiver itself computes; those of all others are as long and as random.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from bench.issued import Issued, issue, look_at_tables
from receiver.database.partitions import make_generation, make_week, rotate_keys, week_of
from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.messages.cells import DIGITS

DAYS = 60
CHUNK = 20_000  # messages a statement
AT_ONCE = 2
SAMPLE = 200  # messages of each week that are looked up

# A UUIDv7 of a time and a digest; rows of one millisecond need not be in order.
ID = "(lpad(to_hex({ms}), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, {at}, 15))::uuid"
# Accepted at once, submitted a second later; where it arrives, 3 to 30 s after that, and told of within 2 s.
SECONDS = "(3 + n % 28)"
LAGS = (
    "1 | lag_v1(0, to_timestamp(1)) << 8"
    f" | case when n % 100 < 90 then lag_v1(0, to_timestamp({SECONDS})) << 16 else 0 end"
)
TOLD = "(1 + n % 76)"
SPREAD = """
 cross join lateral (values (date_trunc('hour', told.at, 'UTC'), 1),
                            (date_trunc('day', told.at, 'UTC'), 24)) w(at, hours)
 cross join (values (0, 'GB'), (4, '')) s(side, country)
"""
OF = {60: "n60", 45: "n45_1", 46: "n46_1", 20: "n20"}  # the columns of what becomes of them
NAMES, ADDED = ", ".join(OF.values()), ", ".join(f"{name} = t.{name} + excluded.{name}" for name in OF.values())
SUMS = ", ".join(f"count(*) filter (where state = {state})" for state in OF)
FILL = f"""
with told as materialized (
  select n, at, {ID.format(ms="ms", at=4)} as id, {ID.format(ms="ms", at=10)} as submission,
         (h::uuid)::text as transid,
         (447000000000 + abs(hashint4(n::int)) % 1000000000)::text as destination, 'order-' || h as callback,
         decode(md5('d' || h), 'hex') as to_key, decode(md5('t' || h), 'hex') as transid_key,
         decode(md5('s' || h), 'hex') as submitted, decode(md5('f' || h), 'hex') as final,
         (case when n % 100 < 90 then 60 when n % 100 < 95 then 45 when n % 100 < 98 then 46 else 20 end)::smallint
           as state, {LAGS} as lags3
    from (select n, md5('message ' || n) as h, ($5 + (n - $2) * $6)::bigint as ms,
                 to_timestamp(($5 + (n - $2) * $6) / 1000.0) as at from generate_series($3::bigint, $4::bigint) n) g
),
s as (
  insert into submission (id, tenant, batch_id, api, created_at, first_id, last_id, message_count, sent_at, answered_at)
  select submission, $1, submission, 1, at, id, id, 1, at, at from told
),
a as (
  insert into attempt (submission_id, number, at, outcome, http_status, code, description)
  select submission, 1, at, 'accepted', 200, '1001', 'Queued' from told
),
m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                       destination_key, callback_data, callback_key)
  select id, $1, 1, 1, at, submission, submission, destination, 'msisdn', to_key, callback,
         decode(md5('c' || callback), 'hex') from told
),
t as (
  insert into message_state (id, tenant, origin, channel, state, facts, reason_key, reason_class, attention, version,
                             accepted_at, submitted_at, delivered_at, failed_at, changed_at, transid, country, lags)
  select id, $1, 1, 1, state, case state when 60 then 2054 when 45 then 1030 when 46 then 4102 else 6 end,
         case when state in (45, 46) then '\\x2d0101'::bytea || final end, case when state in (45, 46) then 1 end,
         state in (45, 46), case state when 20 then 2 else 3 end, at, at + interval '1 s',
         case state when 60 then at + interval '9 s' end, case when state in (45, 46) then at + interval '9 s' end,
         at + interval '9 s', transid, 'GB', lags3 from told
),
k as (
  insert into message_key (generation, tenant, transid_key, leg_key, message_id)
  select $7, $1, transid_key, to_key, id from told
),
r as (
  insert into receipt (message_id, fingerprint, feed, channel, fact, rank, clash, reason_key, reason_class, received_at,
                       told_at, status, code, code_key, description, destination, destination_key, transid, raw)
  select id, case which when 1 then submitted else final end, 1, 1,
         case when which = 1 or state = 20 then 4 when state = 60 then 2048 when state = 45 then 1024 else 4096 end,
         case which when 1 then 20 else state end, 0,
         case when which = 2 and state in (45, 46) then '\\x2d0101'::bytea || final end,
         case when which = 2 and state in (45, 46) then 1 end,
         at + interval '1 s' * which, at + interval '1 s' * which, word, code, decode(md5(code), 'hex'), word,
         destination, to_key, transid,
         convert_to('{{"deliveryInfoNotification":{{"deliveryInfo":{{"timeStamp":"' || at || '","Description":"'
           || word || '","code":"' || code || '","messageCount":"1","deliveryChannel":"SMS","additionalInfo":"",'
           || '"destination":"' || destination || '","destinationType":"msisdn","deliveryStatus":"' || word
           || '"}},"carrier":"","subtid":"","transid":"' || transid || '","callbackData":"' || callback
           || '","correlationid":"' || id || '"}}}}', 'UTF8')
    from told cross join lateral (values (1), (2)) as w(which) cross join lateral (
      select case when which = 1 or state = 20 then 'Submitted' when state = 60 then 'Delivered' else 'Failed' end,
             case when which = 1 or state = 20 then '7501' when state = 60 then '7500' when state = 45 then '7208'
                  else '7102' end) as word(word, code)
),
l as (      -- xid 3: of a transaction before all others, so that nobody folds it a second time
  insert into change (at, xid, message_id, version, tenant, origin, channel, feed, country, old_state, new_state,
                      old_class, new_class, old_conflict, new_conflict, old_lags, new_lags, told_lag)
  select at, '3'::xid8, id, version, $1, 1, 1, feed, 'GB', old, new, null, case when new in (45, 46) then 1 end,
         case when version > 0 then false end, false, case when version > 0 then old_lags end,
         case when version > 0 then new_lags end, case when new > 20 then {TOLD} end
    from told cross join lateral (
      values (0, null, 0, null, 0, 0), (1, 0, 10, 5, 0, 1), (2, 10, 20, 1, 1, lags3 & 65535),
      (3, 20, state, 1, lags3 & 65535, lags3))
        as v(version, old, new, feed, old_lags, new_lags)
   where version < 3 or state > 20
),
c as (
  insert into cohort_state as t (at, hours, tenant, side, value, channel, country, origin, conflict, {NAMES})
  select w.at, w.hours, $1, s.side, '', 1, s.country, 1, false, {SUMS}
    from told {SPREAD} group by 1, 2, s.side, s.country
   order by w.hours, s.side, w.at, s.country
  on conflict (tenant, hours, side, value, at, channel, country, origin, conflict) do update set {ADDED}
)
insert into cohort_lag as t (at, hours, tenant, side, value, channel, country, origin, kind, counts)
select w.at, w.hours, $1, s.side, '', 1, s.country, 1, k.kind, sum(('1e' || {DIGITS} * k.class)::numeric)
  from told {SPREAD}
 cross join lateral (values (1, lags3 & 255), (2, lags3 >> 8 & 255), (3, lags3 >> 16 & 255),
                            (4, case when state > 20 then {TOLD} end)) k(kind, class)
 where k.class > 0 group by 1, 2, s.side, s.country, k.kind
 order by w.hours, s.side, w.at, s.country, k.kind
on conflict (tenant, hours, side, value, at, channel, country, origin, kind)
do update set counts = t.counts + excluded.counts
"""


class Week(NamedTuple):
    """A week, or the part of one, that holds messages."""

    begin: datetime
    end: datetime
    generation: int


async def make_weeks(dsn: str, now: datetime) -> list[Week]:
    """The partitions of the past sixty days, before those of today are made, a generation of keys for each."""
    connection = await connect(dsn, "bench")
    weeks: list[Week] = []
    begin = now - timedelta(days=DAYS)
    while begin < now:
        monday = week_of(begin)
        end = min(datetime(monday.year, monday.month, monday.day, tzinfo=UTC) + timedelta(weeks=1), now)
        if not await connection.fetchval("select exists (select from week where starts_on = $1)", monday):
            async with connection.transaction():
                await make_week(connection, monday)
        if weeks:
            await rotate_keys(connection, timedelta(0))
        generation = int(await connection.fetchval("select current from key_generation"))
        await make_generation(connection, generation + 1)
        weeks.append(Week(begin, end, generation))
        begin = end
    await connection.close()
    return weeks


async def fill(
    dsn: str, tenant: TenantId, weeks: list[Week], done: int, number: int, tell: Callable[[int], None]
) -> list[Issued]:
    """Adds messages until there are `number`, where `done` are there; evenly over the time. Returns the sample."""
    whole = weeks[-1].end - weeks[0].begin
    sample: list[Issued] = []
    queue = list(weeks)

    async def work() -> None:
        connection = await connect(dsn, "bench", synchronous_commit="off", work_mem="64MB")
        while queue:
            week = queue.pop(0)
            low = done + int((number - done) * ((week.begin - weeks[0].begin) / whole))
            high = done + int((number - done) * ((week.end - weeks[0].begin) / whole))
            if not done:
                at = week.begin + (week.end - week.begin) / 2
                sample.extend(await issue(dsn, tenant, SAMPLE, at=at, generation=week.generation))
            await _fill_week(connection, tenant, week, low, high, tell)
        await connection.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    await _tidy(dsn)
    return sample


async def _fill_week(
    connection: "asyncpg.Connection[asyncpg.Record]",
    tenant: TenantId,
    week: Week,
    low: int,
    high: int,
    tell: Callable[[int], None],
) -> None:
    """Messages `low` to `high`, which are their numbers too."""
    begin = int(week.begin.timestamp() * 1000)
    each = ((week.end - week.begin) / timedelta(milliseconds=1)) / max(high - low, 1)
    for start in range(low, high, CHUNK):
        last = min(start + CHUNK, high) - 1
        await connection.execute(FILL, tenant, low, start, last, begin, each, week.generation)
        tell(last - start + 1)


async def _tidy(dsn: str) -> None:
    """What autovacuum has done to weeks that are past, and a checkpoint."""
    connection = await connect(dsn, "bench")
    tables = await connection.fetch(
        "select c.oid::regclass::text as name from pg_class c where c.relkind = 'r' and c.relispartition"
        " and c.relpages < pg_relation_size(c.oid) / 8192 * 0.8"
    )
    for row in tables:
        await connection.execute(f"vacuum (analyze) {row['name']}")
    await look_at_tables(connection)
    await connection.execute("checkpoint")
    await connection.close()
