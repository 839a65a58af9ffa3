"""What is overdue: listed with every other filter, page after page, and shown with each message."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from receiver.messages.lattice import Channel, State, is_final
from receiver.queries.filters import ATTENTION
from tests.support import cloned, receiver_process
from tests.upkeep.waiting import BORN, NUMBER, SECOND, World, id_at, in_world

NOW = datetime.now(UTC)
STATES = (State.QUEUED, State.ACCEPTED, State.SUBMITTED, State.NO_RECEIPT, State.DELIVERED, State.FAILED)
CHANNELS = (Channel.SMS, Channel.VOICE, Channel.APPLE)
SET = "update message_state set state = $2, attention = $3 where id = $1"
LOG = """
insert into change (at, message_id, version, tenant, origin, channel, new_state, new_conflict)
select now(), s.id, s.version, s.tenant, s.origin, s.channel, s.state, s.conflict from message_state s where s.id = $1
"""
WAIT = "insert into awaited (message_id, tenant, channel, look_at, overdue_at) values ($1, $2, $3, $4, $5)"


@dataclass(frozen=True)
class Made:
    """A message as it was made. `overdue_at` None: it is not waited for."""

    id: str
    channel: Channel
    state: State
    overdue_at: datetime | None

    @property
    def is_overdue(self) -> bool:
        final = is_final(self.state, self.channel) or self.state is State.NO_RECEIPT
        return self.overdue_at is not None and self.overdue_at < NOW and not final


@pytest.fixture(scope="module")
def asked(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, list[Made]]]:
    made: list[Made] = []

    async def fill(one: World) -> None:
        rng = random.Random(5)
        for n in range(120):
            channel, state = rng.choice(CHANNELS), rng.choice(STATES)
            overdue_at = rng.choice((None, NOW - timedelta(hours=1), NOW - timedelta(hours=1), NOW + timedelta(days=1)))
            identity = await one.born(NOW - timedelta(minutes=30) + n * SECOND, channel)
            await one.connection.execute(SET, identity, state, int(state) in ATTENTION)
            await one.connection.execute(LOG, identity)
            if overdue_at:
                values = (identity, one.tenant, channel, NOW + timedelta(days=9), overdue_at)
                await one.connection.execute(WAIT, *values)
            made.append(Made(str(identity), channel, state, overdue_at))
        stranger = await one.connection.fetchval("insert into tenant (name) values ('other') returning id")
        await one.unnoticed.execute(
            BORN, other := id_at(NOW - timedelta(minutes=1)), stranger, 1, NOW, NUMBER, bytes(16), None
        )
        await one.connection.execute(WAIT, other, stranger, 1, NOW, NOW - timedelta(hours=1))

    with cloned(postgres, template, "overdue") as database:
        in_world(database, fill)
        folder = tmp_path_factory.mktemp("overdue")
        with (
            receiver_process(database, folder, RECEIVER_ROLES="api") as receiver,
            receiver.client(database.key()) as api,
        ):
            yield api, made[::-1]


def pages(api: httpx2.Client, **filters: str) -> list[dict[str, object]]:
    """All messages that the filters let through, seven on a page."""
    found: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api.get("/v1/messages", params={**filters, "limit": "7", **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["messages"]
        if not page["next_cursor"]:
            return found
        assert len(page["messages"]) == 7
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("overdue", ["true", "false"])
@pytest.mark.parametrize(
    "beside", [{}, {"channel": "sms"}, {"state": "accepted"}, {"destination": NUMBER}, {"state": "failed"}],
    ids=["alone", "a channel", "a state", "a name", "what needs attention"],
)  # fmt: skip
def test_what_is_overdue_is_found_with_every_other_filter(
    asked: tuple[httpx2.Client, list[Made]], overdue: str, beside: dict[str, str]
) -> None:
    api, made = asked
    wanted = [
        one.id
        for one in made
        if one.is_overdue == (overdue == "true")
        and one.channel.word == beside.get("channel", one.channel.word)
        and one.state.word == beside.get("state", one.state.word)
    ]
    assert [message["id"] for message in pages(api, overdue=overdue, **beside)] == wanted


def test_each_message_says_whether_it_is_overdue(asked: tuple[httpx2.Client, list[Made]]) -> None:
    api, made = asked
    truth = {one.id: one.is_overdue for one in made}
    assert True in truth.values()
    assert {message["id"]: message["overdue"] for message in pages(api)} == truth
    for one in made[:20]:
        assert api.get(f"/v1/messages/{one.id}").json()["overdue"] is one.is_overdue


def test_a_value_that_is_neither_true_nor_false_is_refused(asked: tuple[httpx2.Client, list[Made]]) -> None:
    answer = asked[0].get("/v1/messages", params={"overdue": "perhaps"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "overdue"
