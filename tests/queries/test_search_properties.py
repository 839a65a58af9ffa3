"""Any filters give what a plain filter in Python gives, in the same order, page by page, while messages come in."""

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from receiver.database.pool import connect
from receiver.messages.lattice import NEGATIVE_STATES, State
from receiver.platform.codes import Class
from receiver.queries.filters import ORIGINS, Filters
from tests.queries.held_up import held_up
from tests.queries.made import CHANNELS, CODES, NUMBERS, STATES, Made, change, make, random_one, write
from tests.support import Receiver, cloned, eventually, receiver_process

NUMBER, ROUNDS = 300, 120
SPAN = timedelta(hours=20)  # over midnight, and often over the end of a week


@dataclass
class World:
    """A receiver, and what is in its database."""

    receiver: Receiver
    api: httpx2.Client
    made: list[Made]

    def page(self, **asked: Any) -> dict[str, Any]:
        answer = self.api.get("/v1/messages", params=asked)
        assert answer.status_code == 200, (answer.text, asked)
        found: dict[str, Any] = answer.json()
        return found

    def write(self, *some: Made) -> None:
        async def work() -> None:
            connection = await connect(self.receiver.database.dsn, "tests", session_replication_role="replica")
            await write(connection, some)
            await connection.close()

        asyncio.run(work())
        self.made += some

    def change(self, one: Made, state: State) -> None:
        async def work() -> None:
            connection = await connect(self.receiver.database.dsn, "tests", session_replication_role="replica")
            await change(connection, one, state, datetime.now(UTC))
            await connection.close()

        asyncio.run(work())


@pytest.fixture(scope="module")
def world(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("properties")
    with cloned(postgres, template, "properties") as database:
        made = make(database, NUMBER, SPAN)
        with (
            receiver_process(database, folder, RECEIVER_ROLES="api", RECEIVER_RATE_LIMIT="0") as receiver,
            receiver.client(database.key()) as api,
        ):
            yield World(receiver, api, made)


def any_of(rng: random.Random, values: list[Any]) -> list[Any]:
    """One or two of them."""
    return rng.sample(sorted(set(values), key=str), rng.choice((1, 1, 2)))


# Last digits as they are asked for, and what they mean: whole numbers may begin as they are dialled.
ENDS = {end: end for end in ("0001", "900001", "7700900001", "447811900001", "0011", "9999")}
ENDS |= {"+44 7700 900 001": "447700900001", "00447811900001": "447811900001", "(07700) 900011": "7700900011"}
ENDS |= {" 49 1511.2340-001": "4915112340001"}

Judge = Callable[[Made], bool]


def random_filters(rng: random.Random, made: list[Made], changed: bool) -> tuple[dict[str, Any], Judge]:
    """Some filters as they are asked for, and what they mean in plain Python."""
    asked: dict[str, Any] = {}
    judges: list[Judge] = []
    some = rng.sample(made, 2)

    def add(name: str, values: list[Any], judge: Callable[[Made, list[Any]], bool], share: float) -> None:
        if rng.random() < share:
            asked[name] = values
            judges.append(lambda m: judge(m, values))

    add("transid", [m.transid for m in some], lambda m, v: m.transid in v, 0.12)
    add("correlationid", [m.correlationid for m in some], lambda m, v: m.correlationid in v, 0.12)
    add("callbackData", [m.callback for m in some], lambda m, v: m.callback in v, 0.12)
    add("destination", any_of(rng, list(NUMBERS)), lambda m, v: m.destination in v or m.elsewhere in v, 0.15)
    ends = any_of(rng, list(ENDS))
    add("destination_end", ends, lambda m, v: any(m.ends_with(ENDS[end]) for end in v), 0.25)
    add("batch_id", [str(some[0].batch)], lambda m, v: str(m.batch) in v, 0.12)
    add("code", any_of(rng, list(CODES)), lambda m, v: m.reason and m.code in v, 0.15)
    add("class", any_of(rng, [c.word for c in Class]), lambda m, v: m.reason and _class(m) in v, 0.2)
    add("sender", any_of(rng, ["SHOP", "BANK"]), lambda m, v: m.sender in v, 0.2)
    add("country", any_of(rng, ["GB", "DE"]), lambda m, v: m.country in v, 0.2)
    states = any_of(rng, [*(s.word for s in STATES), "any_failure"])
    add("state", states, lambda m, v: m.state.word in v or ("any_failure" in v and m.state in NEGATIVE_STATES), 0.3)
    add("channel", any_of(rng, [c.word for c in CHANNELS]), lambda m, v: m.channel.word in v, 0.2)
    add("origin", any_of(rng, list(ORIGINS)), lambda m, v: m.origin in [ORIGINS[o] for o in v], 0.2)
    add("final", [rng.choice(("true", "false"))], lambda m, v: m.is_final == (v == ["true"]), 0.15)
    add("conflict", [rng.choice(("true", "false"))], lambda m, v: m.conflict == (v == ["true"]), 0.1)
    begin = min(m.created_at for m in some)
    add("created_from", [begin.isoformat()], lambda m, _: m.created_at >= begin, 0.2)
    end = begin + timedelta(hours=9)
    add("created_to", [end.isoformat()], lambda m, _: m.created_at < end, 0.2)
    if changed:
        asked["order"] = "changed"
        add("changed_from", [begin.isoformat()], lambda m, _: m.changed_at >= begin, 0.4)
        add("changed_to", [end.isoformat()], lambda m, _: m.changed_at < end, 0.4)
    return asked, lambda m: all(judge(m) for judge in judges)


def _class(one: Made) -> str:
    return one.reason_class.word if one.reason_class is not None else ""


def ours(world: World) -> list[Made]:
    mine = min(m.tenant for m in world.made)
    return [m for m in world.made if m.tenant == mine and not m.merged]


@pytest.mark.parametrize("seed", range(4))
def test_any_filters_give_what_python_gives_page_by_page_while_messages_come(world: World, seed: int) -> None:
    rng = random.Random(seed)
    empty = 0
    for _ in range(ROUNDS // 4):
        asked, judge = random_filters(rng, ours(world), changed=False)
        wanted = [str(m.id) for m in sorted(ours(world), key=lambda m: m.id, reverse=True) if judge(m)]
        found: list[str] = []
        cursor: dict[str, str] = {}
        limit = rng.choice((1, 2, 3, 7, 50))
        if len(wanted) > 30:
            limit = max(limit, 7)
        while True:
            page = world.page(**asked, **cursor, limit=limit, total="true")
            found += [m["id"] for m in page["messages"]]
            if not cursor:
                number, accuracy = page["total"]["value"], page["total"]["accuracy"]
                assert number == len(wanted) if accuracy == "exact" else number <= len(wanted), (asked, page["total"])
            if not page["next_cursor"]:
                break
            assert len(page["messages"]) == limit
            cursor = {"cursor": page["next_cursor"]}
            if len(found) == limit:  # behind the first page: what comes now is newer than all
                at = datetime.now(UTC)
                new = random_one(rng, ours(world)[0].tenant, at, [world.made[0].batch])
                new.changed_at, new.merged = at, False
                world.write(new)
                if "created_to" not in asked:
                    again = world.page(**asked, limit=1000)
                    assert len(again["messages"]) >= len(wanted)
        assert found == wanted, asked
        assert page["total"]["value"] >= len(wanted) or page["total"]["accuracy"] == "at_least"
        empty += not wanted
    assert empty < ROUNDS // 8, "the filters let too little through to prove anything"


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_changes_is_that_of_the_last_ones(world: World, seed: int) -> None:
    rng = random.Random(100 + seed)
    for _ in range(ROUNDS // 6):
        asked, judge = random_filters(rng, ours(world), changed=True)
        wanted = {str(m.id): m for m in ours(world) if judge(m)}
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = world.page(**asked, **cursor, limit=rng.choice((3, 7, 50)))
            found += [m["id"] for m in page["messages"]]
            if not page["next_cursor"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert sorted(found) == sorted(wanted), asked
        times = [wanted[one].changed_at for one in found]
        assert times == sorted(times, reverse=True), asked


def test_what_changes_between_two_pages_is_never_shown_twice_and_nothing_else_is_missed(world: World) -> None:
    mine = sorted(ours(world), key=lambda m: m.seq, reverse=True)
    rng = random.Random(9)
    shown: list[str] = []
    cursor: dict[str, str] = {}
    moved: set[str] = set()
    while True:
        page = world.page(order="changed", limit=40, **cursor)
        shown += [m["id"] for m in page["messages"]]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
        for one in rng.sample(mine, 3):
            world.change(one, State.READ)
            moved.add(str(one.id))
    assert len(set(shown)) == len(shown)
    assert {str(m.id) for m in mine} - moved <= set(shown)
    first = world.page(order="changed", limit=len(moved))
    assert {m["id"] for m in first["messages"]} == moved, "what changed stands at the beginning"


def test_the_total_says_how_good_it_is(world: World) -> None:
    mine = ours(world)
    assert world.page(limit=1000, total="true")["total"] == {"value": len(mine), "accuracy": "exact"}
    delivered = len([m for m in mine if m.state is State.DELIVERED])
    assert world.page(state="delivered", limit=1, total="true")["total"] == {"value": delivered, "accuracy": "exact"}
    assert world.page(sender="SHOP", limit=1)["total"] is None


WAITS = "select application_name from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def test_a_name_that_takes_long_to_look_up_goes_on_among_the_costly_reads(world: World) -> None:
    wanted = [str(m.id) for m in sorted(ours(world), key=lambda m: m.id, reverse=True) if m.callback == "d-3"]

    def waiting() -> list[str]:
        return [row["application_name"] for row in world.receiver.database.fetch(WAITS)]

    with held_up(world.receiver.database) as let_go, ThreadPoolExecutor() as threads:
        page = threads.submit(world.page, callbackData="d-3", limit=200)
        eventually(lambda: waiting() == ["receiver costly queries"])
        let_go()
        assert [m["id"] for m in page.result()["messages"]] == wanted


def test_last_digits_are_a_name_where_all_of_them_are_those_of_few() -> None:
    assert Filters(destination_end=["7700900001", "7811900"]).is_named
    assert not Filters(destination_end=["7700900001", "0001"]).is_named
    assert not Filters().is_named


def test_longer_ago_than_the_log_goes_is_refused(world: World) -> None:
    old = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    for asked in ({"changed_from": old, "order": "changed"}, {"changed_from": datetime.now(UTC).isoformat()}):
        answer = world.api.get("/v1/messages", params=asked)
        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json()["errors"]] == ["changed_from"]
