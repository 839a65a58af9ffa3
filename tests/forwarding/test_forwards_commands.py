"""`receiver forwards`, run as an operator or a script runs it."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.test_commands import command, one_sentence
from tests.forwarding.clients import Scene, answering, client_server, play, running, until
from tests.support import Database, cloned

SECRET_PATH = "/a-secret-path?a-secret"


@pytest.fixture(scope="module")
def module_database(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "forwards_commands") as database:
        yield database


@pytest.fixture
def cleared(module_database: Database) -> Database:
    module_database.fetch("delete from forward")
    return module_database


def forwards(database: Database, *arguments: str) -> "subprocess.CompletedProcess[str]":
    ran = command("forwards", *arguments, DATABASE_URL=database.dsn)
    assert "Traceback" not in ran.stderr
    assert "a-secret" not in ran.stdout + ran.stderr
    return ran


def listed(database: Database, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(forwards(database, "list", "--json", *arguments).stdout)
    return found


def fill(database: Database, waiting: int, dead: int) -> None:
    async def work(scene: Scene) -> None:
        await scene.queue(f"https://dead.example{SECRET_PATH}", dead)
        await scene.connection.execute(
            "update forward set due_at = 'infinity', attempts = 3, last_status = 404, expires_at = now()"
        )
        await scene.queue(f"https://waiting.example{SECRET_PATH}", waiting)

    play(database, work)


def test_what_waits_and_what_was_given_up_is_listed(cleared: Database) -> None:
    fill(cleared, 2, 3)
    rows = listed(cleared)
    assert [row["state"] for row in rows] == ["waiting"] * 2 + ["dead"] * 3
    assert set(rows[0]) == {
        *(
            "id",
            "tenant",
            "state",
            "kind",
            "message_id",
            "host",
            "created_at",
            "due_at",
            "attempts",
            "last_status",
            "last_error",
        )
    }
    assert [row["host"] for row in listed(cleared, "--state", "waiting")] == ["https://waiting.example"] * 2
    assert [(row["due_at"], row["last_status"]) for row in listed(cleared, "--state", "dead")] == [(None, 404)] * 3
    assert len(listed(cleared, "--limit", "1")) == 1
    table = forwards(cleared, "list", "--limit", "4")
    for word in ("https://dead.example", "given up", "answered 404", "https://waiting.example", "due "):
        assert word in table.stdout
    assert "there are more" in table.stderr
    assert "receiver forwards retry" in table.stderr


def test_an_empty_queue_is_told_in_words(cleared: Database) -> None:
    play(cleared, lambda scene: scene.empty())
    ran = forwards(cleared, "list")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "nothing waits" in ran.stderr


def test_what_was_given_up_goes_on_after_a_retry(cleared: Database) -> None:
    async def given_up(scene: Scene) -> None:
        client.answers["/x"] = answering(404)
        await scene.queue(f"{client.url}/x", 2)
        async with running(scene.forwarder()):
            await until(lambda: over(scene))

    async def over(scene: Scene) -> bool:
        return all(row["is_dead"] for row in await scene.rows())

    async def goes_on(scene: Scene) -> None:
        async with running(scene.forwarder()):
            await scene.empty()

    with client_server() as client:
        play(cleared, given_up)
        first, second = (row["id"] for row in listed(cleared, "--state", "dead"))
        ran = forwards(cleared, "retry", str(first), "999999", "--json")
        assert json.loads(ran.stdout) == {"due_now": [first], "untouched": [999999]}
        assert [row["id"] for row in listed(cleared, "--state", "dead")] == [second]
        ran = forwards(cleared, "retry", "--all-dead")
        assert ran.stdout.startswith("1 due now")
        assert [row["attempts"] for row in listed(cleared, "--state", "waiting")] == [0, 0]
        del client.answers["/x"]
        play(cleared, goes_on)
        assert len(client.told) == 4


def test_one_that_waits_for_its_next_try_goes_on_at_once(cleared: Database) -> None:
    fill(cleared, 1, 0)
    cleared.fetch("update forward set due_at = now() + interval '1 hour', attempts = 9")
    (row,) = listed(cleared)
    assert forwards(cleared, "retry", str(row["id"])).stdout.startswith("1 due now")
    ran = forwards(cleared, "retry", str(row["id"]))
    assert ran.stdout.startswith("0 due now")
    assert "untouched" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["list", "--state", "gone"], "waiting, dead"),
        (["list", "--tenant", "nobody"], "nobody"),
        (["retry"], "--all-dead"),
        (["retry", "1", "--all-dead"], "not both"),
        (["retry", str(1 << 70)], "whole number"),
        (["retry", "--all-dead", "--tenant", "nobody"], "nobody"),
    ],
)
def test_what_is_asked_wrongly_is_answered_in_one_sentence(cleared: Database, arguments: list[str], word: str) -> None:
    cleared.tenant()
    one_sentence(forwards(cleared, *arguments), word, code=2)


def test_an_operator_s_command_takes_no_setting_away(cleared: Database) -> None:
    """`forward_to` is what serves set: a command may have been started without it."""
    play(cleared, lambda scene: scene.empty(), forward_to="https://tenant.example/x")
    forwards(cleared, "list")
    assert cleared.value("select forward_to from tenant where name = 'default'") == "https://tenant.example/x"
