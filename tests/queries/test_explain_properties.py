"""An explanation is right: replayed step by step, generated receipts end in what the database believes."""

import asyncio
import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.database.pool import Pool, open_pool
from receiver.ids import TenantId
from receiver.messages.lattice import RANK, Channel, Fact, State
from receiver.queries import one_message
from receiver.queries.explain import contradictions, explain, unfold
from receiver.queries.legs import legs_of, stored
from receiver.waits import DEFAULTS
from tests.receipts.tellings import body, fold_of, life, told_of
from tests.receipts.test_apply_properties import apply_at_once, groups_of, issue
from tests.support import Database, now

_numbers = itertools.count(1)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def _example(runner: asyncio.Runner, pool: Pool, tenant: TenantId, data: st.DataObject) -> None:
    infos: list[dict[str, Any]] = data.draw(life())
    groups = data.draw(groups_of(len(infos)))
    ours = data.draw(st.booleans())
    runner.run(_check(pool, tenant, infos, groups, ours))


async def _check(
    pool: Pool, tenant: TenantId, infos: list[dict[str, Any]], groups: list[list[int]], ours: bool
) -> None:
    transid = f"x-{next(_numbers)}"
    async with pool.acquire() as connection:
        identity = (await issue(connection, tenant))[0] if ours else None
    told = [told_of(body(info, transid, str(identity) if identity else "theirs"), tenant) for info in infos]
    await apply_at_once(pool, [[told[n] for n in group] for group in groups])
    async with pool.acquire() as connection:
        if identity is None:
            identity = await connection.fetchval("select id from message_state where transid = $1", transid)
        row = await one_message.one(connection, tenant, identity)
        assert row is not None
        rows, cut = await one_message.arrivals(connection, identity)
        held = await one_message.held(connection, row)
        state = await connection.fetchrow("select * from message_state where id = $1", identity)
    assert state is not None
    belief = fold_of(state)
    steps, unfolding = unfold(rows, observed=not ours)

    assert (len(steps), cut) == (len(rows), False)
    assert steps[-1].after == belief.state.word
    for before, step in itertools.pairwise(steps):
        assert step.before == before.after, "each step begins where the one before it ended"
    assert steps[0].before == ("queued" if ours else None)
    mine = unfolding.belief
    for name in ("state", "facts", "reason_key", "conflict", "clicks", "complaints"):
        assert getattr(mine, name) == getattr(belief, name), name
    assert bool(contradictions(unfolding)) == belief.conflict == any(step.conflict for step in steps)
    for step, receipt in zip(steps, rows, strict=True):
        rank = RANK[Fact(receipt["fact"])]
        assert step.changed == (step.why == "raised") == (step.after != (step.before or "queued"))
        if step.why == "lower":
            assert rank < State[step.after.upper()]
        assert (step.reason is None) == (receipt["reason_key"] is None)
    reasons = [r["reason_key"] for s, r in zip(steps, rows, strict=True) if s.reason == "won"]
    assert (reasons[-1] if reasons else None) == belief.reason_key, "the last that won is the reason"
    assert max((State[leg.state.upper()] for leg in legs_of(rows)), default=State.QUEUED) == belief.state
    assert sum(leg.receipts for leg in legs_of(rows)) == len([r for r in rows if stored(r).leg is not None])
    whole = explain(row, rows, cut, held, DEFAULTS[Channel(row["channel"]).word], now(), identity)
    assert whole.state == belief.state.word
    assert whole.expected.nothing == (whole.final or whole.state == "no_receipt")


def test_the_explained_steps_end_in_what_the_database_believes(database: Database) -> None:
    tenant = database.tenant()
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database.dsn, "tests", 4, writer=True))
        _example(runner, pool, tenant)
        runner.run(pool.close())
