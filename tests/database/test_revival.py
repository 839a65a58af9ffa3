"""The embedded Postgres after kill -9: nothing that a dead process left behind keeps it from starting again."""

import asyncio
import os
import random
import resource
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from receiver.database.embedded import serving
from receiver.database.postgres_server import STOPS
from receiver.database.revival import EmbeddedPostgres
from receiver.upkeep.postgres import EVERY_SECONDS, PostgresWatch
from tests.database.processes import alive, children, holder, postmasters, query, until

ROUNDS = int(os.environ.get("RECEIVER_TEST_KILLS", "6"))


def kill_postmaster(folder: Path) -> None:
    """kill -9 of the postmaster alone: its children find that out by themselves."""
    (postmaster,) = postmasters(folder)
    os.kill(postmaster, signal.SIGKILL)
    until(lambda: not alive(postmaster))


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_of_both_at_any_moment_again_and_again_loses_nothing(served: Path, seed: int) -> None:
    chance = random.Random(seed)
    with serving(served) as cluster:
        query(cluster, "DROP TABLE IF EXISTS rounds")
        query(cluster, "CREATE TABLE rounds (n int)")
    for n in range(ROUNDS):
        with holder(served, wait=False) as process:
            until(lambda: bool(postmasters(served)) or process.poll() is not None)
            threading.Event().wait(chance.uniform(0, 0.3))  # at any moment of its start
            for pid in (process.pid, *postmasters(served)):
                os.kill(pid, signal.SIGKILL)
            process.wait()
        with serving(served) as cluster:
            query(cluster, f"INSERT INTO rounds VALUES ({n})")
            (postmaster,) = postmasters(served)
            os.kill(postmaster, signal.SIGKILL)
            killed_at = time.monotonic()
        assert time.monotonic() - killed_at < STOPS[0][1], "whoever leaves waits for a dead one"
    with serving(served) as cluster:
        assert query(cluster, "SELECT count(*) FROM rounds") == ROUNDS


def test_a_child_that_outlives_its_postmaster_does_not_keep_postgres_from_starting(served: Path) -> None:
    with holder(served) as process:
        (postmaster,) = postmasters(served)
        child = children(postmaster)[0]
        os.kill(child, signal.SIGSTOP)  # as one in a long statement: it does not see that its parent is dead
        process.kill()
        process.wait()
        kill_postmaster(served)
        assert alive(child)
        with serving(served) as cluster:
            assert query(cluster, "SELECT 1") == 1
    assert not alive(child)


def test_a_visitor_who_stays_does_not_keep_a_dead_server_dead(served: Path) -> None:
    with holder(served, kind="visiting"):
        kill_postmaster(served)
        with serving(served) as cluster:
            assert query(cluster, "SELECT 1") == 1


@pytest.mark.parametrize("torn", [b"", b"\0" * 64], ids=["empty", "zeros"])
def test_a_pid_file_that_a_power_cut_tore_does_not_keep_postgres_from_starting(served: Path, torn: bytes) -> None:
    (served / "postgres/postmaster.pid").write_bytes(torn)
    with serving(served) as cluster:
        assert query(cluster, "SELECT 1") == 1


def test_a_pid_that_went_to_another_postgres_does_not_keep_ours_from_starting(served: Path, folder: Path) -> None:
    with serving(folder):
        (other,) = postmasters(folder)
        with holder(served) as process:
            pid_file = served / "postgres/postmaster.pid"
            text = pid_file.read_text()
            (ours,) = postmasters(served)
            process.kill()
            process.wait()
            kill_postmaster(served)
        pid_file.write_text(text.replace(str(ours), str(other), 1))
        with serving(served) as cluster:
            assert query(cluster, "SELECT 1") == 1
        assert alive(other)


@pytest.mark.parametrize("name", ["data", "long" * 25], ids=["socket inside", "socket elsewhere"])
def test_started_again_it_is_where_its_clients_look_for_it(folder: Path, name: str) -> None:
    place = folder / name
    with serving(place) as cluster:
        postgres = EmbeddedPostgres(place)
        for _ in range(3):
            kill_postmaster(place)
            assert not postgres.is_alive()
            assert postgres.start_again(lambda: False)
            assert query(cluster, "SELECT 1") == 1
    assert postmasters(place) == []


def test_started_again_it_has_the_password_that_its_clients_know(served: Path) -> None:
    password = served / "postgres-password"
    with serving(served) as cluster:
        kept = password.read_text()
        password.unlink()
        kill_postmaster(served)
        assert EmbeddedPostgres(served).start_again(lambda: False)
        assert query(cluster, "SELECT 1") == 1
        password.write_text(kept)


def test_a_start_that_is_given_up_leaves_no_server(served: Path) -> None:
    with serving(served):
        postgres = EmbeddedPostgres(served)
        kill_postmaster(served)
        assert not postgres.start_again(lambda: bool(postmasters(served)))
        assert postmasters(served) == []


def test_the_watch_starts_a_dead_server_again_and_tells_of_it(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    def told_of_starts(number: int) -> bool:
        return caplog.messages.count("postgres_started") == number

    async def work() -> None:
        watch = PostgresWatch(postgres)
        running = asyncio.create_task(watch.run())
        for started in range(3):
            await asyncio.to_thread(kill_postmaster, served)
            await asyncio.to_thread(until, partial(told_of_starts, started + 1))
        await watch.close()
        await running

    with serving(served) as cluster:
        postgres = EmbeddedPostgres(served)
        asyncio.run(work())
        assert query(cluster, "SELECT 1") == 1
    assert caplog.messages == ["postgres_died", "postgres_started"] * 3


def test_the_watch_gives_up_with_the_reason_when_starting_again_does_not_help(served: Path) -> None:
    configuration = served / "postgres/postgresql.conf"
    before = configuration.read_text()
    try:
        with serving(served):
            postgres = EmbeddedPostgres(served)
            configuration.write_text(before + "no_such_setting = 1\n")
            kill_postmaster(served)
            with pytest.raises(RuntimeError, match=r"3 starts.*no_such_setting"):
                asyncio.run(PostgresWatch(postgres, pauses=(0, 0.01, 0.01)).run())
    finally:
        configuration.write_text(before)


def test_the_watch_does_not_die_when_no_descriptor_is_free(served: Path) -> None:
    async def work() -> None:
        watch = PostgresWatch(postgres)
        running = asyncio.create_task(watch.run())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # as many clients as there may be
        try:
            with pytest.raises(OSError, match="Too many open files"):
                postgres.is_alive()
            await asyncio.wait({running}, timeout=3 * EVERY_SECONDS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await watch.close()
        await running

    with serving(served):
        postgres = EmbeddedPostgres(served)
        asyncio.run(work())


def test_a_second_visitor_waits_for_the_server_that_is_started_again(served: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(serving(served))
        postgres = EmbeddedPostgres(served)
        kill_postmaster(served)
        visitor = stack.enter_context(holder(served, kind="visiting", wait=False))
        assert postgres.start_again(lambda: False)
        assert visitor.stdout is not None
        assert visitor.stdout.readline() == "up\n"
        assert len(postmasters(served)) == 1
