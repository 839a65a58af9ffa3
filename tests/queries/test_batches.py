"""A batch in figures: the same that counting its messages gives."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from receiver.database.pool import connect
from tests.queries.one import World, world
from tests.support import eventually


@pytest.fixture(scope="module")
def here(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres, template, tmp_path_factory.mktemp("batches"), "batches") as made:
        yield made


def test_the_figures_are_those_of_its_messages(here: World) -> None:
    batch, ids = here.send(12)
    here.send(3)
    for n, (status, code) in enumerate(
        [
            ("Delivered", ""),
            ("Delivered", ""),
            ("Failed", "7101"),
            ("Failed", "7101"),
            ("Failed", ""),
            ("Submitted", ""),
        ]
    ):
        here.told(ids[n], status, code, stamp=f"2099-01-01T10:0{n}:00Z")
    here.told(ids[0], "Failed", "7202")
    here.told(ids[6], "Undelivered", "7207")
    found = here.api.get(f"/v1/batches/{batch}").json()
    listed = here.api.get("/v1/messages", params={"batch_id": batch}).json()["messages"]

    assert found["batch_id"] == batch
    assert (found["handed_in"], found["messages"], found["resent"]) == (12, 12, 0)
    assert found["states"] == dict(Counter(message["state"] for message in listed))
    assert found["states"] == {"accepted": 5, "submitted": 1, "undelivered": 1, "failed": 3, "delivered": 2}
    assert found["final"] == sum(message["final"] for message in listed) == 6
    assert (found["open"], found["conflicts"]) == (6, 1)
    assert found["delivered_share"] == round(2 / 12, 6)
    failures = [(f["state"], f["reason"]["code"], f["reason"]["class"], f["messages"]) for f in found["failures"]]
    assert sorted(failures, key=repr) == sorted(
        [
            ("failed", "7101", "configuration", 2),
            ("failed", None, "unknown", 1),
            ("undelivered", "7207", "temporary", 1),
        ],
        key=repr,
    )
    assert found["failures"][0]["example"] in ids[2:4]
    assert found["failures"][0]["reason"]["text"] == here.get(ids[2])["reason"]["text"]
    assert found["slowest"]["delivered"] == {
        "id": ids[1],
        "seconds": here.get(ids[1])["latency"]["delivered"],
        "state": "delivered",
    }
    assert found["slowest"]["open"]["id"] == min(m["id"] for m in listed if not m["final"])
    assert found["slowest"]["open"]["seconds"] > 0
    assert found["first_change_at"] == min(message["changed_at"] for message in listed)
    assert found["last_change_at"] == max(message["changed_at"] for message in listed)


def _of_batch(here: World, batch: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = here.api.get("/v1/messages", params={"batch_id": batch, "limit": 200}).json()[
        "messages"
    ]
    return found


def test_a_hundred_failures_are_listed_and_it_says_where_there_are_more(here: World) -> None:
    batch, ids = here.send(101)
    numbers = {m["id"]: m["destination"] for m in _of_batch(here, batch)}

    def fail(n: int) -> None:
        here.told(ids[n], "Failed", f"9{n:03}", number=numbers[ids[n]])

    for n in range(100):
        fail(n)
    found = here.api.get(f"/v1/batches/{batch}").json()
    assert (len(found["failures"]), found["failures_cut"], found["states"]["failed"]) == (100, False, 100)
    fail(100)
    found = here.api.get(f"/v1/batches/{batch}").json()
    assert (len(found["failures"]), found["failures_cut"], found["states"]["failed"]) == (100, True, 101)


def test_a_batch_of_failures_alone_has_no_slowest(here: World) -> None:
    batch, _ = here.send_to("447700999999")
    found = eventually(lambda: (b := here.api.get(f"/v1/batches/{batch}").json())["final"] and b)
    assert found["states"] == {"refused": 1}
    assert found["slowest"] == {"delivered": None, "open": None}
    assert found["delivered_share"] == 0
    assert found["failures"][0]["reason"]["code"] == "7004"


def test_a_batch_that_can_t_be_delivered_has_no_share_of_it(here: World) -> None:
    answer = here.api.post("/v1/events", json={"events": [{"evtid": "late"}]})
    batch = answer.json()["batch_id"]
    found = here.api.get(f"/v1/batches/{batch}").json()
    assert (found["messages"], found["delivered_share"]) == (1, None)


@pytest.mark.parametrize("minutes", [0, 5], ids=["at once", "minutes later"])
def test_a_resend_counts_with_the_batch_of_what_it_stands_for(here: World, minutes: int) -> None:
    batch, ids = here.send(2)
    later = here.send(1)[1][0]
    far = UUID(int=UUID(later).int + (minutes * 60_000 << 80))
    database = here.receiver.database
    for table in ("message", "message_state"):
        database.fetch(f"update {table} set id = $2 where id = $1", later, far)
    database.fetch(
        "update message set batch_id = $2, resend_of = $3,"
        " destination_key = (select destination_key from message where id = $3) where id = $1",
        far,
        batch,
        ids[0],
    )
    database.fetch("update batch set last_id = $2 where id = $1", batch, far)
    database.fetch("update message_state set facts = facts | 1 where id = $1", ids[0])
    database.fetch("update message_state set state = 42, attention = true where id = $1", far)
    found = here.api.get(f"/v1/batches/{batch}").json()
    assert (found["handed_in"], found["messages"], found["resent"]) == (2, 3, 1)
    assert found["states"] == {"accepted": 2, "refused": 1}
    assert [(f["state"], f["messages"], f["example"]) for f in found["failures"]] == [("refused", 1, str(far))]


def test_a_batch_that_takes_too_long_is_refused_in_time(here: World) -> None:
    batch, _ = here.send(1)

    async def work() -> httpx2.Response:
        holder = await connect(here.receiver.database.dsn, "tests")
        try:
            async with holder.transaction():
                await holder.execute("lock table message_state in access exclusive mode")
                return await asyncio.to_thread(here.api.get, f"/v1/batches/{batch}")
        finally:
            await holder.close()

    answer = asyncio.run(work())
    assert (answer.status_code, answer.json()["code"]) == (503, "batch_too_large")
    assert int(answer.headers["retry-after"]) > 0
    assert here.api.get(f"/v1/batches/{batch}").status_code == 200


def test_a_batch_of_somebody_else_is_none(here: World) -> None:
    batch, ids = here.send()
    for client, identity in ((here.stranger, batch), (here.api, ids[0]), (here.api, str(uuid4()))):
        answer = client.get(f"/v1/batches/{identity}")
        assert (answer.status_code, answer.json()["code"]) == (404, "batch_not_found")
    assert here.api.get("/v1/batches/x").json()["code"] == "bad_id"
    assert here.api.get(f"/v1/batches/{batch}?limit=3").json()["errors"][0]["pointer"] == "limit"
