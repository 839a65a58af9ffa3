"""The worker: at least once, to each address, whatever breaks; a host that is down costs the others nothing."""

import asyncio
import hmac
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from receiver.forwarding import forwarder as forwarding
from receiver.forwarding import queue
from receiver.forwarding.breakers import FIRST_OPEN, MOST_FAILURES
from receiver.forwarding.forwarder import LEASE
from receiver.messages.lattice import Channel
from tests.forwarding.clients import (
    ClientServer,
    Scene,
    answering,
    client_server,
    counted,
    delivered,
    play,
    running,
    until,
)
from tests.support import Database, free_port, now


@pytest.fixture
def client() -> Iterator[ClientServer]:
    with client_server() as server:
        yield server


def test_a_receipt_goes_on_once_as_the_client_knows_its_message(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(f"{client.url}/receipts?token=1")
        taken = counted("taken")
        for _ in range(2):
            await scene.tell(delivered("t-1", str(message).upper(), "$(callbackData)"))
        async with running(scene.forwarder()):
            await scene.empty()
            await scene.tell(delivered("t-1", str(message).upper(), "$(callbackData)"))
            await scene.tell(delivered("t-1", str(message), "told"))
            await until(lambda: told(2))
        assert client.bodies == [delivered("t-1", "order-1", "the client's"), delivered("t-1", "order-1", "told")]
        (first, _) = client.told
        assert first.path == "/receipts?token=1"
        assert first.headers["content-type"] == "application/json"
        assert first.headers["user-agent"].startswith("receiver/")
        assert first.headers["host"] == client.url.removeprefix("http://")
        assert counted("taken") == taken + 2

    async def told(number: int) -> bool:
        return len(client.told) >= number

    play(database, work)


def test_a_child_goes_on_with_the_ids_of_its_event(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        event, _ = await scene.issue(client.url, channel=Channel.EVENT, number="", correlationid="event-1")
        await scene.tell(delivered("t-1", str(event)))
        async with running(scene.forwarder()):
            await scene.empty()
        assert client.bodies == [delivered("t-1", "event-1", "the client's")]

    play(database, work)


def test_to_the_tenant_s_address_goes_what_was_observed_as_it_came(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        await scene.tell(delivered("never-seen", "somebody's"))
        async with running(scene.forwarder()):
            await scene.empty()
        assert client.bodies == [delivered("never-seen", "somebody's")]

    play(database, work, forward_to=f"{client.url}/all")


def test_the_tenant_s_address_is_shown_what_the_platform_shows_and_a_client_s_own_is_not(
    database: Database, client: ClientServer
) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(f"{client.url}/own")
        await scene.tell(delivered("t-1", str(message)))
        await scene.tell(delivered("never-seen", "somebody's"))
        async with running(scene.forwarder()):
            await scene.empty()
        told = {telling.path: telling for telling in client.told}
        signed = hmac.new(b"the secret of the signature", told["/all"].raw, "sha256").hexdigest()
        assert told["/all"].headers["x-hub-signature"] == f"sha256={signed}"
        assert told["/all"].headers["authorization"] == "Basic eDp5"
        assert not {"x-hub-signature", "authorization"} & told["/own"].headers.keys()

    play(
        database,
        work,
        forward_to=f"{client.url}/all",
        signature_secrets=("the secret of the signature", "the one before"),
        notify_header="Authorization",
        notify_header_values=("Basic eDp5",),
    )


def test_what_a_dead_process_had_claimed_is_told_by_another(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        message, _ = await scene.issue(client.url)
        await scene.tell(delivered("t-1", str(message)))
        long_ago = now() - LEASE - timedelta(seconds=1)
        await scene.connection.execute("update forward set due_at = $1", long_ago)
        (claim,) = await queue.claim(scene.connection, long_ago, 8, {}, 8, LEASE)
        async with running(scene.forwarder()):
            await scene.empty()
        assert len(client.told) == 1
        await queue.settle(scene.connection, [claim], [])  # it was only slow: its late word changes nothing

    play(database, work)


def test_a_claim_that_was_taken_over_is_settled_by_its_new_owner_alone(database: Database) -> None:
    async def work(scene: Scene) -> None:
        await scene.queue("http://127.0.0.1:9", 1)
        (slow,) = await queue.claim(scene.connection, now(), 8, {}, 8, timedelta(seconds=-1))
        await scene.connection.execute(queue.RELEASE, now())
        (owner,) = await queue.claim(scene.connection, now(), 8, {}, 8, LEASE)
        await queue.settle(scene.connection, [slow], [queue.Putting(slow, None, 404, None)])
        (row,) = await scene.rows()
        assert (row["attempts"], row["is_dead"]) == (2, False)
        await queue.settle(scene.connection, [owner], [])
        assert await scene.rows() == []

    play(database, work)


def test_a_claim_locks_no_more_hosts_than_it_takes_receipts(database: Database) -> None:
    async def work(scene: Scene) -> None:
        for host in range(12):
            await scene.queue(f"https://h{host}.example/", 3)
        assert len(await queue.claim(scene.connection, now(), 2, {}, 3, LEASE)) == 2
        locked = "select count(*) from forward where lease_until is null and xmax::text <> '0'"
        assert await scene.connection.fetchval(locked) <= 2 * 3
        hosts = "select count(distinct host) from forward where lease_until is null"
        assert await scene.connection.fetchval(hosts) == 12

    play(database, work)


@pytest.mark.parametrize(
    ("status", "result", "minutes"),
    [(503, "retried", 1), (401, "retried", 1), (429, "retried", 1), (404, "given_up", None), (302, "given_up", None)],
)
def test_an_answer_decides_whether_it_is_told_again(
    database: Database, client: ClientServer, status: int, result: str, minutes: int | None
) -> None:
    async def work(scene: Scene) -> None:
        client.answers["/x"] = answering(status, location=f"{client.url}/elsewhere")
        message, _ = await scene.issue(f"{client.url}/x")
        await scene.tell(delivered("t-1", str(message)))
        before = counted(result)
        async with running(scene.forwarder()):
            await until(lambda: settled(scene))
        (row,) = await scene.rows()
        assert (row["last_status"], row["attempts"], row["is_dead"]) == (status, 1, minutes is None)
        if minutes is not None:
            assert timedelta(seconds=55) < row["due_at"] - now() <= timedelta(minutes=minutes)
        assert counted(result) == before + 1
        assert [telling.path for telling in client.told] == ["/x"]  # a redirect is not followed

    play(database, work)


async def settled(scene: Scene) -> bool:
    """Whether every row in the queue was tried and put off."""
    return all(row["attempts"] and row["lease_until"] is None for row in await scene.rows())


def test_without_an_answer_it_is_told_again(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        client.answers["/hangs"] = lambda: None
        for url in (f"{client.url}/hangs", f"http://127.0.0.1:{free_port()}/"):
            await scene.queue(url, 1)
        async with running(scene.forwarder(seconds=0.3)):
            await until(lambda: settled(scene))
        errors = [(row["last_status"], row["last_error"], row["is_dead"]) for row in await scene.rows()]
        assert errors[0] == (None, "no answer in time", False)
        assert errors[1][1].startswith("no connection")

    play(database, work)


def test_an_answer_counts_once_its_status_is_there(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        client.answers["/huge"] = answering(200, b"x" * 5_000_000)
        client.answers["/torn"] = answering(200, b"x", **{"content-length": "9"})
        for path in ("/huge", "/torn"):
            await scene.queue(f"{client.url}{path}", 1)
        async with running(scene.forwarder(seconds=0.5)):
            await scene.empty()

    play(database, work)


def test_no_proxy_of_the_environment_is_used(
    database: Database, client: ClientServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    async def work(scene: Scene) -> None:
        await scene.queue(client.url, 1)
        async with running(scene.forwarder()):
            await scene.empty()

    play(database, work)


def test_a_host_that_is_down_does_not_slow_the_others(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        seconds = 1000.0
        dead = f"http://127.0.0.1:{free_port()}"
        await scene.queue(f"{dead}/a-secret-path", 300)
        await scene.queue(f"{client.url}/x", 300)
        forwarder = scene.forwarder(monotonic=lambda: seconds)
        async with running(forwarder):
            await until(lambda: told(300))
            tried = await scene.connection.fetchval("select sum(attempts) from forward where host = $1", dead)
            assert MOST_FAILURES <= tried <= MOST_FAILURES + 4  # with those under way: half of eight
            (warning,) = forwarder.warnings()
            assert dead in warning
            assert "secret" not in warning
            seconds += FIRST_OPEN  # one probe, and then it is left alone again
            await until(lambda: tries(scene, dead, tried + 1))
            seconds += FIRST_OPEN
            await scene.queue(f"{client.url}/x", 50)
            await until(lambda: told(350))
            assert await tries(scene, dead, tried + 1)

    async def told(number: int) -> bool:
        return len(client.told) >= number

    async def tries(scene: Scene, host: str, number: int) -> bool:
        total = await scene.connection.fetchval("select sum(attempts) from forward where host = $1", host)
        return bool(total == number)

    play(database, work)


def test_a_host_that_comes_back_gets_what_waited(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        seconds = 1000.0
        client.answers["/x"] = answering(503)
        await scene.queue(f"{client.url}/x", 20)
        at = now() + timedelta(seconds=1)
        forwarder = scene.forwarder(monotonic=lambda: seconds, clock=lambda: at)
        async with running(forwarder):
            await until(lambda: warned(forwarder))
            del client.answers["/x"]
            seconds, at = seconds + FIRST_OPEN, at + timedelta(minutes=2)
            await scene.empty()
            assert forwarder.warnings() == []

    async def warned(forwarder: forwarding.Forwarder) -> bool:
        return bool(forwarder.warnings())

    play(database, work)


def test_the_queue_is_bounded_and_the_oldest_are_dropped(database: Database) -> None:
    async def work(scene: Scene) -> None:
        before = counted("dropped")
        await scene.queue("https://client.example/a", 150)
        newest = [row["id"] for row in await scene.rows()][50:]
        await scene.forwarder(most_waiting=100).tidy()
        assert [row["id"] for row in await scene.rows()] == newest
        assert counted("dropped") == before + 50
        await scene.connection.execute("update forward set due_at = 'infinity'")
        await scene.queue("https://client.example/b", 100)
        await scene.forwarder(most_waiting=100).tidy()
        assert [row["is_dead"] for row in await scene.rows()] == [True] * 100 + [False] * 100

    play(database, work)


def test_what_nobody_could_tell_for_72_hours_is_given_up_and_forgotten_after_a_month(database: Database) -> None:
    async def work(scene: Scene) -> None:
        await scene.queue("https://client.example/a", 1)
        at = now() + timedelta(hours=71)
        forwarder = scene.forwarder(clock=lambda: at)
        for hours, dead in ((0, [False]), (2, [True]), (24 * 29, [True]), (24 * 2, [])):
            at += timedelta(hours=hours)
            await forwarder.tidy()
            assert [row["is_dead"] for row in await scene.rows()] == dead

    play(database, work)


def test_a_receipt_that_went_with_its_week_leaves_the_queue(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        await scene.queue(client.url, 1)
        await scene.connection.execute("delete from receipt")
        async with running(scene.forwarder()):
            await scene.empty()
        assert client.told == []

    play(database, work)


def test_the_log_has_the_host_alone(database: Database, client: ClientServer, caplog: pytest.LogCaptureFixture) -> None:
    async def work(scene: Scene) -> None:
        client.answers["/a-secret-path?a-secret"] = answering(404)
        dead = f"http://127.0.0.1:{free_port()}"
        await scene.queue(f"{client.url}/a-secret-path?a-secret", 3)
        await scene.queue(f"{dead}/a-secret-path", 20)
        async with running(forwarder := scene.forwarder()):
            await until(lambda: open_(forwarder))
            await until(lambda: answered(3))
        await forwarder.tidy()
        lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
        assert any(dead in line and "forward_host_left_alone" in line for line in lines)
        assert any(client.url in line and "forwards_given_up" in line for line in lines)
        assert not any("secret" in line for line in lines)

    async def open_(forwarder: forwarding.Forwarder) -> bool:
        return bool(forwarder.warnings())

    async def answered(number: int) -> bool:
        return len(client.told) == number

    with caplog.at_level(logging.DEBUG):
        play(database, work)


def test_the_database_may_go_away_and_come_back(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        async with running(scene.forwarder()):
            await scene.queue(client.url, 1)
            await scene.empty()
            await scene.connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            await scene.queue(client.url, 5)
            await scene.empty()
        assert len(client.told) >= 6

    play(database, work)


def test_two_forwarders_share_the_work_and_tell_each_receipt_once(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        await scene.queue(f"{client.url}/x", 200)
        async with running(scene.forwarder()), running(scene.forwarder()):
            await scene.empty()
        assert len(client.told) == 200

    play(database, work)


def test_closing_lets_a_call_under_way_finish(database: Database, client: ClientServer) -> None:
    async def work(scene: Scene) -> None:
        client.answers["/slow"] = lambda: (client.let_go.wait(10), (200, {}, b""))[1]
        await scene.queue(f"{client.url}/slow", 1)
        forwarder = scene.forwarder()
        task = asyncio.create_task(forwarder.run())
        await until(told)
        await forwarder.close()
        client.let_go.set()
        await task
        assert await scene.rows() == []

    async def told() -> bool:
        return bool(client.told)

    play(database, work)
