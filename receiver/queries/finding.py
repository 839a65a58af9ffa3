"""Which messages a search finds: their ids are looked up by the sharpest filter, and each is judged by the others."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from receiver.ids import TenantId, destination_digest, digest, parse_id, transid_root
from receiver.messages.told import transid_digest
from receiver.queries import hours
from receiver.queries import looks as sql
from receiver.queries.filters import Filters

LEAST, GREATEST = UUID(int=0), UUID(int=(1 << 128) - 1)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Look:
    """One way to the messages of some values: its index, and what it gives."""

    text: str
    values: str
    whole: bool = True  # messages as they are, not their ids alone
    condition: str = ""
    in_order: bool = False  # the newest first by its making, which Postgres does not see: sorting would read all


class Finding:
    """The statement that gives ids and states in order, and its values.

    `limit` is how many it gives at most.
    """

    def __init__(self, tenant: TenantId, filters: Filters, limit: int) -> None:
        at = filters.position.id if filters.position and not filters.changed else None
        least = [bound for bound in (filters.to_id, at) if bound]
        self.values: list[object] = [tenant, filters.from_id or LEAST, min(least, default=GREATEST), limit]
        self._filters = filters
        self._looks: list[Look] = []
        self._of_message: list[str] = []
        self._of_state = ["s.tenant = $1", "s.merged_into is null"]
        self._of_change = ["i.tenant = $1", "i.new_state is not null"]
        self._attention = False
        self._states: str | None = None  # the parameter that has them
        self._read_names(filters)
        self._read_reasons(filters)
        self._read_states(filters)

    @property
    def walks_changes(self) -> bool:
        """Whether the change log is walked, as the order is that of changes and no name is given."""
        return self._filters.changed is not None and not self._looks

    def page(self) -> str:
        """The statement of a page: id and state, in any order."""
        if self._filters.changed:
            self._bound_changes()
            branches = [self._branch(look, sql.BY_CHANGE) for look in self._looks]
            return sql.BY_TIME.format(branches=_all(branches))
        branches = [self._branch(look, sql.BY_VALUE) for look in self._looks]
        walk = hours.walk(self._states) if self._states and not self._attention else sql.WALK
        return sql.BY_ID.format(branches=_all(branches or [self._walk(walk)]))

    def walk_changes(self, low: int, high: int) -> str:
        """The statement of a page along the change log, from number `low` to below `high`: id, state and seq.

        Of each message the last change alone; most is judged by the log's own columns.
        """
        window, position = self._filters.changed, self._filters.position
        assert window is not None
        high = min(high, position.seq) if position and position.seq is not None else high
        look = sql.CHANGES.format(
            low=self._place("bigint", low),
            high=self._place("bigint", high),
            begin=self._place("timestamptz", window.begin),
            end=self._place("timestamptz", window.end or FOREVER),
            conditions=" and ".join(self._of_change),
        )
        join, on = sql.MUST
        beside = sql.STATE.format(join, on) + (sql.MESSAGE.format(join, "d", on) if self._of_message else "")
        conditions = " and ".join([*self._of_state, *self._message_conditions("m")])
        return sql.WALK_CHANGES.format(look=look, beside=beside, conditions=conditions)

    def count(self) -> str:
        """The statement that counts what fits among the first of each value: messages, and the most looked at."""
        if self._filters.changed:
            self._bound_changes()
        branches = [self._branch(look, sql.COUNT_BY_VALUE) for look in self._looks]
        return sql.COUNT.format(branches=_all(branches or [self._walk(sql.COUNT_WALK)]))

    def _read_names(self, filters: Filters) -> None:
        """The names of a message, the sharpest first: it becomes the way, the others conditions."""
        if filters.transid:
            keys = self._place("bytea[]", [transid_digest(transid_root(text)) for text in filters.transid])
            self._looks.append(Look(sql.KEYS, keys, whole=False))
        if filters.correlationid:
            ours = [identity for text in filters.correlationid if (identity := parse_id(text))]
            keys = self._place("bytea[]", [digest(text) for text in filters.correlationid])
            ways, condition = [Look(sql.MESSAGES.format("i.correlation_key = w.key"), keys)], sql.CORRELATION
            if ours:
                ids = self._place("uuid[]", ours)
                ways, condition = (
                    [*ways, Look(sql.MESSAGES.format("i.id = w.key"), ids)],
                    f"({sql.CORRELATION} or {sql.OURS})",
                )
            self._way_or_condition(ways, condition, keys, *([ids] if ours else []))
        if filters.destination:
            keys = self._place("bytea[]", [destination_digest(text) for text in filters.destination])
            self._way_or_condition([Look(sql.TO, keys, whole=False)], sql.DESTINATION, keys)
        if filters.batch_id:
            ids = self._place("uuid[]", filters.batch_id)
            self._way_or_condition([Look(sql.MESSAGES.format(sql.IN_BATCH), ids)], sql.BATCH, ids)
        if filters.callback_data:
            keys = self._place("bytea[]", [digest(text) for text in filters.callback_data])
            self._way_or_condition([Look(sql.MESSAGES.format("i.callback_key = w.key"), keys)], sql.CALLBACK, keys)
        if filters.destination_end:
            ends = self._place("text[]", [text[::-1] for text in filters.destination_end])
            self._way_or_condition([Look(sql.ENDING, ends, whole=False, in_order=True)], sql.DESTINATION_END, ends)
        if filters.sender:
            self._of_message.append(sql.SENDER.format(self._place("text[]", filters.sender), m="{m}"))

    def _read_reasons(self, filters: Filters) -> None:
        """Why it failed: a code leads to messages where no name does, unless the order is that of changes."""
        if filters.code or filters.reason_class:
            self._of_state.append(sql.NOT_DELIVERED)
        if filters.code:
            keys = self._place("bytea[]", [digest(text) for text in filters.code])
            if self._looks or filters.changed:
                self._of_state.append(sql.CODE.format(keys))
            else:
                self._looks.append(Look(sql.REASONS, keys, False, sql.IS_THE_REASON))
        if filters.reason_class:
            classes = self._place("smallint[]", filters.reason_class)
            self._of_state.append(f"s.reason_key is not null and coalesce(s.reason_class, 0) = any({classes})")

    def _read_states(self, filters: Filters) -> None:
        for name, values in (("channel", filters.channel), ("origin", filters.origin), ("state", filters.state)):
            if values:
                placed = self._place("smallint[]", values)
                self._of_state.append(f"s.{name} = any({placed})")
                self._of_change.append(f"i.{'new_state' if name == 'state' else name} = any({placed})")
                if name == "state":
                    self._states = placed
        if filters.country:
            self._of_state.append(f"s.country = any({self._place('text[]', filters.country)})")
        if filters.conflict is not None:
            self._of_state.append(f"s.conflict = {self._place('boolean', filters.conflict)}")
        if filters.final is not None:
            self._of_state.append(f"is_final_v1(s.state, s.channel) = {self._place('boolean', filters.final)}")
        if filters.overdue is not None:
            self._of_state.append(sql.OVERDUE if filters.overdue else f"not ({sql.OVERDUE})")
            if filters.overdue and not self._looks and not filters.changed:
                self._looks.append(Look(sql.AWAITED, self._place("boolean[]", [True]), whole=False))
        if filters.only_attention or filters.conflict:
            self._attention = True
            self._of_state.append("s.attention")  # its index is the way, where there is no name

    def _place(self, kind: str, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def _way_or_condition(self, looks: list[Look], condition: str, *values: str) -> None:
        if self._looks:
            self._of_message.append(condition.format(*values, m="{m}"))
        else:
            self._looks = looks

    def _bound_changes(self) -> None:
        """Between which times the last change was; and behind which the page begins."""
        window, position = self._filters.changed, self._filters.position
        assert window is not None
        self._of_state.append(f"s.changed_at >= {self._place('timestamptz', window.begin)}")
        if window.end:
            self._of_state.append(f"s.changed_at < {self._place('timestamptz', window.end)}")
        if position and position.id:
            at, identity = self._place("timestamptz", position.changed_at), self._place("uuid", position.id)
            self._of_state.append(f"(s.changed_at, s.id) < ({at}, {identity})")

    def _branch(self, look: Look, text: str) -> str:
        join, on = sql.MAY if text is sql.COUNT_BY_VALUE else sql.MUST
        apart = self._of_message and not look.whole
        beside = sql.STATE.format(join, on) + (sql.MESSAGE.format(join, "d", on) if apart else "")
        conditions = [*self._of_state, *self._message_conditions("m" if apart else "d")]
        conditions += [look.condition] if look.condition else []
        return text.format(
            values=look.values,
            look=look.text,
            beside=beside,
            conditions=" and ".join(conditions),
            order="" if look.in_order else "order by d.id desc",
        )

    def _message_conditions(self, alias: str) -> list[str]:
        return [condition.replace("{m}", alias) for condition in self._of_message]

    def _walk(self, text: str) -> str:
        join, on = sql.MAY if text is sql.COUNT_WALK else sql.MUST
        return text.format(
            beside=sql.MESSAGE.format(join, "s", on) if self._of_message else "",
            conditions=" and ".join([*self._of_state, *self._message_conditions("m")]),
            attention="and i.attention" if self._attention else "",
        )


def _all(branches: list[str]) -> str:
    return " union all ".join(f"({branch})" for branch in branches)
