"""Which messages a search finds: their ids are looked up by the sharpest filter, and each is judged by the others.

Each look is fenced (`offset 0`), so that it can only be one look into an index, whatever Postgres believes of a table:
the plan is made once and kept. Reasons: docs/decisions/0015-kept-plans-of-searches.md.
"""

from dataclasses import dataclass
from uuid import UUID

from receiver.ids import TenantId, destination_digest, digest, parse_id, transid_root
from receiver.messages.told import transid_digest
from receiver.queries.filters import Filters

LEAST, GREATEST = UUID(int=0), UUID(int=(1 << 128) - 1)

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
CORRELATION, OURS = "{m}.correlation_key = any({0})", "{m}.id = any({1})"
CALLBACK = "{m}.callback_key = any({0})"
BATCH = "{m}.batch_id = any({0})"
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

MESSAGE = "cross join lateral (select * from message i where i.id = d.id and i.id >= $2 and i.id < $3 offset 0) m"
STATE = """cross join lateral (
    select i as whole, i.* from message_state i where i.id = d.id and i.id >= $2 and i.id < $3 offset 0) s"""

# Limited for each value, so that a number with a hundred thousand messages costs a page.
BY_VALUE = """
select g.* from unnest({values}) w(key) cross join lateral (
  select d.id, s.whole as state from ({look}) d {beside} where {conditions} order by d.id desc limit $4) g"""
WALK = """
select s.id, s as state from message_state s
 where s.id >= $2 and s.id < $3 and {conditions} order by s.id desc limit $4"""
FOUND = "select distinct on (f.id) f.id, f.state from ({branches}) f order by f.id desc limit $4"


@dataclass(frozen=True)
class Look:
    """One way to the messages of some values: its index, and whether it gives whole messages or their ids alone."""

    text: str
    values: str
    whole: bool = True
    condition: str = ""


class Finding:
    """The statement that gives ids and states of a page and one more, newest first, and its values."""

    def __init__(self, tenant: TenantId, filters: Filters) -> None:
        self.values: list[object] = [
            tenant,
            filters.from_id or LEAST,
            filters.before_id or GREATEST,
            filters.limit + 1,
        ]
        self._looks: list[Look] = []
        self._of_message: list[str] = []
        self._of_state = ["s.tenant = $1", "s.merged_into is null"]
        self._read_names(filters)
        self._read_states(filters)
        branches = [self._branch(look) for look in self._looks]
        walk = WALK.format(conditions=" and ".join(self._of_state))
        self.text = FOUND.format(branches=" union all ".join(f"({branch})" for branch in branches or [walk]))

    def _read_names(self, filters: Filters) -> None:
        """The names of a message, the sharpest first: it becomes the way, the others conditions."""
        if filters.transid:
            keys = self._place("bytea[]", [transid_digest(transid_root(text)) for text in filters.transid])
            self._looks.append(Look(KEYS, keys, whole=False))
        if filters.correlationid:
            ours = [identity for text in filters.correlationid if (identity := parse_id(text))]
            keys = self._place("bytea[]", [digest(text) for text in filters.correlationid])
            ways, condition = [Look(MESSAGES.format("i.correlation_key = w.key"), keys)], CORRELATION
            if ours:
                ids = self._place("uuid[]", ours)
                ways, condition = [*ways, Look(MESSAGES.format("i.id = w.key"), ids)], f"({CORRELATION} or {OURS})"
            self._way_or_condition(ways, condition, keys, *([ids] if ours else []))
        if filters.destination:
            keys = self._place("bytea[]", [destination_digest(text) for text in filters.destination])
            self._way_or_condition([Look(TO, keys, whole=False)], DESTINATION, keys)
        if filters.batch_id:
            ids = self._place("uuid[]", filters.batch_id)
            self._way_or_condition([Look(MESSAGES.format(IN_BATCH), ids)], BATCH, ids)
        if filters.callback_data:
            keys = self._place("bytea[]", [digest(text) for text in filters.callback_data])
            self._way_or_condition([Look(MESSAGES.format("i.callback_key = w.key"), keys)], CALLBACK, keys)
        if filters.code:
            keys = self._place("bytea[]", [digest(text) for text in filters.code])
            self._of_state.append(NOT_DELIVERED)
            if self._looks:
                self._of_state.append(CODE.format(keys))
            else:
                self._looks.append(Look(REASONS, keys, False, IS_THE_REASON))

    def _read_states(self, filters: Filters) -> None:
        if filters.channel:
            self._of_state.append(f"s.channel = any({self._place('smallint[]', filters.channel)})")
        if filters.origin:
            self._of_state.append(f"s.origin = any({self._place('smallint[]', filters.origin)})")
        if filters.state:
            self._of_state.append(f"s.state = any({self._place('smallint[]', filters.state)})")
        if filters.conflict is not None:
            self._of_state.append(f"s.conflict = {self._place('boolean', filters.conflict)}")
        if filters.overdue is not None:
            self._of_state.append(OVERDUE if filters.overdue else f"not ({OVERDUE})")
            if filters.overdue and not self._looks:
                self._looks.append(Look(AWAITED, self._place("boolean[]", [True]), whole=False))
        if filters.only_attention or filters.conflict:
            self._of_state.append("s.attention")  # its index is the way, where there is no name

    def _place(self, kind: str, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def _way_or_condition(self, looks: list[Look], condition: str, *values: str) -> None:
        if self._looks:
            self._of_message.append(condition.format(*values, m="{m}"))
        else:
            self._looks = looks

    def _branch(self, look: Look) -> str:
        of_message = [condition.format(m="d" if look.whole else "m") for condition in self._of_message]
        beside = f"{STATE} {MESSAGE}" if of_message and not look.whole else STATE
        conditions = [*self._of_state, *of_message, *([look.condition] if look.condition else [])]
        return BY_VALUE.format(values=look.values, look=look.text, beside=beside, conditions=" and ".join(conditions))
