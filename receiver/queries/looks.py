"""The pieces of which a search is made. Each look is one look into an index, by a plan that is made once and kept.

That is what the fences (`offset 0`) are for, whatever Postgres believes of a table. Reasons:
docs/decisions/0015-kept-plans-of-searches.md.
"""

# $1 the tenant, $2 the least id, $3 the id below which all are, $4 how many. `w.key` is one of the values asked for.
MESSAGES = "select i.* from message i where {} and i.id >= $2 and i.id < $3 order by i.id desc offset 0"
KEYS = """
select distinct k.message_id as id from message_key k
 where k.transid_key = w.key and k.tenant = $1 and k.message_id >= $2 and k.message_id < $3 order by 1 desc offset 0"""
TO = """
select distinct b.id from (
  (select i.id from message i where i.destination_key = w.key and i.id >= $2 and i.id < $3 order by i.id desc offset 0)
  union all
  (select t.message_id from receipt t
    where t.elsewhere and t.destination_key = w.key and t.message_id >= $2 and t.message_id < $3
    order by t.message_id desc offset 0)) b
 order by b.id desc offset 0"""
# `w.key`: the last digits, the last one first. The index has nine of them.
ENDS = (
    """tail_v1({d}.destination) collate "C" >= left({k}, 9)"""
    """ and tail_v1({d}.destination) collate "C" < left({k}, 9) || ':'"""
    """ and (length({k}) <= 9 or reverse(regexp_replace({d}.destination, '[^0-9]', '', 'g')) like {k} || '%')"""
)
# Week by week, the latest first, as the index has no order of time beside the digits: a page stops where it is full.
ENDING = f"""
select b.id from (select v.first_id, v.end_id from week v order by v.starts_on desc offset 0) v
 cross join lateral (
  select distinct e.id from (
    (select i.id from message i
      where {ENDS.format(d="i", k="w.key")} and i.tenant = $1
        and i.id >= greatest($2, v.first_id) and i.id < least($3, v.end_id) offset 0)
    union all
    (select t.message_id from receipt t
      where t.elsewhere and {ENDS.format(d="t", k="w.key")}
        and t.message_id >= greatest($2, v.first_id) and t.message_id < least($3, v.end_id) offset 0)) e
   order by e.id desc offset 0) b"""
REASONS = """
select t.message_id as id, t.fingerprint from receipt t
 where t.code_key = w.key and t.reason_key is not null and t.message_id >= $2 and t.message_id < $3
 order by t.message_id desc offset 0"""
# No name leads there: `w.key` is a single true.
AWAITED = """
select i.message_id as id from awaited i
 where i.tenant = $1 and i.overdue_at <= now() and i.message_id >= $2 and i.message_id < $3
 order by i.message_id desc offset 0"""
IN_BATCH = (
    "i.batch_id = w.key and i.id >= (select b.first_id from batch b where b.id = w.key)"
    " and i.id <= (select b.last_id from batch b where b.id = w.key)"
)

# What stands beside a look: the same filter, where a sharper one has found the message.
DESTINATION = (
    "({m}.destination_key = any({0}) or exists (select from receipt t where t.message_id = {m}.id"
    " and t.elsewhere and t.destination_key = any({0})))"
)
DESTINATION_END = (
    f"exists (select from unnest({{0}}) e(key) where {ENDS.format(d='{m}', k='e.key')} or exists ("
    f"select from receipt t where t.message_id = {{m}}.id and t.elsewhere and {ENDS.format(d='t', k='e.key')}))"
)
CORRELATION, OURS = "{m}.correlation_key = any({0})", "{m}.id = any({1})"
CALLBACK = "{m}.callback_key = any({0})"
BATCH = "{m}.batch_id = any({0})"
SENDER = "{m}.sender = any({0})"
CODE = (
    "(select t.code_key from receipt t where t.message_id = s.id and t.fingerprint = substring(s.reason_key from 4))"
    " = any({0})"
)
IS_THE_REASON = "d.fingerprint = substring(s.reason_key from 4)"
# Who waits is looked at again only now and then: its state decides.
OVERDUE = (
    "coalesce((select a.overdue_at from awaited a where a.message_id = s.id) <= now(), false)"
    " and not is_final_v1(s.state, s.channel) and s.state <> 30"
)
NOT_DELIVERED = "s.state not in (60, 70)"  # delivered after all: it has no reason

MESSAGE = "{0} lateral (select * from message i where i.id = {1}.id and i.id >= $2 and i.id < $3 offset 0) m {2}"
STATE = """{0} lateral (
    select i as whole, i.* from message_state i where i.id = d.id and i.id >= $2 and i.id < $3 offset 0) s {1}"""
MUST, MAY = ("cross join", " "), ("left join", "on true ")

# Limited for each value, so that a number with a hundred thousand messages costs a page.
BY_VALUE = """
select g.* from unnest({values}) w(key) cross join lateral (
  select d.id, s.whole as state from ({look}) d {beside} where {conditions} {order} limit $4) g"""
# In the order of changes all that a name finds is looked at: there is no index in which its last change comes first.
BY_CHANGE = """
select g.* from unnest({values}) w(key) cross join lateral (
  select d.id, s.whole as state from ({look}) d {beside} where {conditions}
   order by s.changed_at desc, d.id desc limit $4) g"""
WALK = """
select s.id, s as state from message_state s {beside}
 where s.id >= $2 and s.id < $3 and {conditions} order by s.id desc limit $4"""
CHANGES = """
select i.message_id as id, i.seq, i.version from change i
 where i.seq >= {low} and i.seq < {high} and i.at >= {begin} and i.at < {end}
   and i.message_id >= $2 and i.message_id < $3 and {conditions}
 order by i.seq desc offset 0"""
WALK_CHANGES = """
select d.id, s.whole as state, d.seq from ({look}) d {beside}
 where d.version = s.version and {conditions} order by d.seq desc limit $4"""

BY_ID = "select distinct on (f.id) f.id, f.state from ({branches}) f order by f.id desc limit $4"
BY_TIME = """
select f.* from (select distinct on (f.id) f.id, f.state from ({branches}) f order by f.id) f
 order by (f.state).changed_at desc, f.id desc limit $4"""

# What a count looks at: so many of each value, and no more.
COUNT_BY_VALUE = """
select d.id, d.n, coalesce({conditions}, false) as fits from unnest({values}) w(key) cross join lateral (
  select l.*, row_number() over () as n from (select * from ({look}) l limit $4) l) d {beside}"""
COUNT_WALK = """
select s.id, s.n, coalesce({conditions}, false) as fits from (
  select l.*, row_number() over () as n from (
    select i.* from message_state i
     where i.id >= $2 and i.id < $3 {attention} order by i.id desc limit $4) l) s {beside}"""
COUNT = """
select count(distinct f.id) filter (where f.fits) as messages, coalesce(max(f.n), 0) as looked from ({branches}) f"""
