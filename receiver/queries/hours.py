"""A walk over the messages by their time that opens only hours in which some may be as they are asked for.

What the statistics have of an hour and what the change log has had since are read in the same snapshot as the messages,
so an hour that is passed by holds none: docs/decisions/0027-hours-that-hold-none.md.
"""

from receiver.messages.cells import COLUMNS
from receiver.messages.lattice import State

MOST_UNFOLDED = 10_000  # changes that are looked through, about 1 µs each: where there are more, no hour is passed by
_EACH = {state: " or ".join(f"c.{column.name} > 0" for column in COLUMNS if column.state is state) for state in State}
_IN_STATE = " or ".join(f"{int(state)} = any({{states}}) and ({some})" for state, some in _EACH.items())

# A scalar and no `exists`: that might be hashed, which reads the whole roll-up. What follows an `or` is read only where
# it is needed; what does not depend on the hour is read once. The bounds that are known beforehand spare partitions.
# 24 hours, not a day: where the session's zone changes its clocks, a day has 23 or 25.
_MAY = """(
       coalesce((select true from (
                   select * from cohort_state i
                    where i.tenant = $1 and i.hours = {hours} and i.side = 4 and i.value = '' and i.at = {at}
                      and i.at >= to_timestamp(minted_v1($2)) - interval '24 hours'
                      and i.at <= to_timestamp(minted_v1($3)) offset 0) c
                  where {cell} limit 1), false)
       or {at} = any(array(select date_trunc('{unit}', to_timestamp(minted_v1(u.message_id)), 'UTC') from since u
                            where u.is_unfolded and u.tenant = $1 and u.new_state = any({states})))
       or (select count(*) > {most} from since)
       or not exists (select from folded f, pg_control_system() p
                       where f.one_row and f.cluster = p.system_identifier and f.at > now() - interval '1 day'))"""

# The latest first, by nested loops alone: there is nothing to sort, so it ends where the page is full. No transaction
# writes for a week: a change that is not folded yet is in the last two weeks of the log.
_WALK = """
with since as materialized (
  select i.message_id, i.tenant, i.new_state,
         i.seq > f.floor_seq and not pg_visible_in_snapshot(i.xid, f.snapshot) as is_unfolded
    from (select * from folded where one_row offset 0) f
   cross join lateral (
     select * from change c where c.xid >= pg_snapshot_xmin(f.snapshot) and c.at > now() - interval '8 days'
      limit {most} + 1) i)
select w.id, w.state
  from (select v.starts_on from week v where v.end_id > $2 and v.first_id < $3 order by v.starts_on desc offset 0) v
 cross join lateral (
   select t.at from (
     select (v.starts_on + n)::timestamp at time zone 'UTC' as at from generate_series(6, 0, -1) n offset 0) t
    where first_id_at_v1(t.at + interval '24 hours') > $2 and first_id_at_v1(t.at) < $3 and {day} offset 0) d
 cross join lateral (
   select t.at from (select d.at + n * interval '1 hour' as at from generate_series(23, 0, -1) n offset 0) t
    where first_id_at_v1(t.at + interval '1 hour') > $2 and first_id_at_v1(t.at) < $3 and {hour} offset 0) h
 cross join lateral (
   select s.id, s as state from message_state s {{beside}}
    where s.id >= greatest($2, first_id_at_v1(h.at)) and s.id < least($3, first_id_at_v1(h.at + interval '1 hour'))
      and {{conditions}} order by s.id desc limit $4) w
 limit $4"""


def walk(states: str) -> str:
    """The text of a walk over the messages in some states (their parameter), as finding.py fills it in."""
    may = {"at": "t.at", "cell": _IN_STATE.format(states=states), "states": states, "most": MOST_UNFOLDED}
    return _WALK.format(
        most=MOST_UNFOLDED,
        day=_MAY.format(hours=24, unit="day", **may),
        hour=_MAY.format(hours=1, unit="hour", **may),
    )
