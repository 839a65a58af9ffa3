"""The self-probe of a real service: it arrives over TLS, says what is wrong when it does not, and nothing counts it."""

import asyncio
import contextlib
import math
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from receiver import metrics
from receiver.access.tokens import PROBE, NotifyTokens
from receiver.database.pool import lazy_pool
from receiver.doctor.check import Result as Found
from receiver.probe.calling import Result
from receiver.probe.prober import Prober
from tests.doctor.examining import assert_says, installation, verdict
from tests.probe.servers import OK, answering, made
from tests.support import (
    SECRET,
    Database,
    environment_of,
    eventually,
    free_port,
    now,
    receiver_command,
    receiver_process,
    run,
)

TOKENS = NotifyTokens(SECRET)
TOKEN = TOKENS.sign(PROBE)
TRAFFIC = ("receiver_notify_responses", "receiver_receipts_total", "receiver_messages_total", "receiver_intake_group")
UNTOUCHED = ("intake", "receipt", "message", "change", "quarantine", "tenant")
ARRIVED = 'receiver_probes_total{result="arrived"}'


def figures(url: str, trust: ssl.SSLContext | bool = True) -> dict[str, float]:
    """Every series of a scrape."""
    text = httpx2.get(f"{url}/metrics", trust_env=False, timeout=20, verify=trust).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@contextlib.contextmanager
def over_tls(database: Database, cert: Path, key: Path, log: Path) -> Iterator[str]:
    """A service that speaks https itself and probes itself every second; its address."""
    url = f"https://localhost:{free_port()}"
    choices = {
        "DATABASE_URL": database.dsn,
        "PORT": url.rpartition(":")[2],
        "PUBLIC_URL": url,
        "PLATFORM_URL": "http://127.0.0.1:9",
        "SECRET": SECRET,
        "TLS_CERT": str(cert),
        "TLS_KEY": str(key),
        "PROBE_SECONDS": "1",
        "SPOOL": "off",
    }
    environment = {f"RECEIVER_{name}": value for name, value in choices.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "serve"],
            env=environment_of(SSL_CERT_FILE=str(cert), **environment),
            stdout=output,
            stderr=output,
        )
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0


def test_a_probe_goes_through_tls_and_nothing_counts_it(database: Database, tmp_path: Path) -> None:
    cert, key = made(tmp_path, days=50)
    trust, log = ssl.create_default_context(cafile=str(cert)), tmp_path / "log"

    def arrived(url: str) -> dict[str, float] | None:
        with contextlib.suppress(httpx2.HTTPError):
            found = figures(url, trust)
            return found if found.get(ARRIVED, 0) >= 2 else None
        return None

    with over_tls(database, cert, key, log) as url:
        found = eventually(lambda: arrived(url), seconds=45)
        assert found["receiver_probe_up"] == 1
        assert 0 < found["receiver_probe_seconds"] < 15
        assert abs(found["receiver_probe_last_success_timestamp_seconds"] - now().timestamp()) < 30
        left = found["receiver_public_certificate_expiry_timestamp_seconds"] - now().timestamp()
        assert abs(left - 50 * 86400) < 600
        assert not [s for s in found if s.startswith(TRAFFIC) and found[s]]
        counts = database.counts()
        assert {table: counts[table] for table in UNTOUCHED} == {**dict.fromkeys(UNTOUCHED, 0), "tenant": 1}
        examined = installation(database.dsn, tmp_path, PROBE_SECONDS="1")
        assert_says(verdict(examined, "self-probe"), Found.OK, "the last one arrived")
    text = log.read_text()
    assert TOKEN not in text
    assert "probe_failed" not in text, "an end is no failure"


def test_readyz_the_log_and_the_doctor_say_why_and_a_restart_with_the_right_address_mends_it(
    database: Database, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with receiver_process(database, tmp_path, RECEIVER_PROBE_SECONDS="1", RECEIVER_PUBLIC_URL=nowhere) as receiver:
        with receiver.client() as client:
            words = "probes of the public address failed: it can't be reached: connection refused"
            eventually(lambda: words in client.get("/readyz").text, seconds=45)
            assert client.get("/readyz").status_code == 200, "what it takes is durable all the same"
        found = figures(receiver.url)
        assert found["receiver_probe_up"] == 0
        assert found['receiver_probes_total{result="connection"}'] >= 2
        assert math.isnan(found["receiver_probe_last_success_timestamp_seconds"])
        examined = installation(database.dsn, tmp_path, PROBE_SECONDS="1")
        assert_says(verdict(examined, "self-probe"), Found.FAILURE, "did not arrive (connection)")
    text = receiver.log.read_text()
    assert text.count("probe_failed") == 1, "once for each reason"
    assert TOKEN not in text
    with receiver_process(database, tmp_path, RECEIVER_PROBE_SECONDS="1") as again:
        eventually(lambda: figures(again.url)["receiver_probe_up"] == 1, seconds=45)
        assert "probes of the public" not in httpx2.get(f"{again.url}/readyz", trust_env=False, timeout=20).text
        assert figures(again.url)['receiver_probes_total{result="connection"}'] == 0


def test_an_end_in_the_middle_of_a_probe_waits_for_nobody_and_is_no_failure(database: Database, tmp_path: Path) -> None:
    async def main() -> tuple[float, str]:
        async with answering() as silent:
            with receiver_process(
                database, tmp_path, RECEIVER_PROBE_SECONDS="60", RECEIVER_PUBLIC_URL=silent.url
            ) as receiver:
                await until(lambda: bool(silent.requests))
                began = time.monotonic()
                receiver.process.send_signal(signal.SIGTERM)
                await until(lambda: receiver.process.poll() is not None)
                assert receiver.process.returncode == 0
                return time.monotonic() - began, receiver.log.read_text()

    took, text = run(main())
    assert took < 8, "not the ten seconds that an answer has"
    assert "probe_failed" not in text
    assert "Traceback" not in text


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self) -> datetime:
        return self.now


@contextlib.asynccontextmanager
async def prober(dsn: str, url: str, held: list[bool], clock: Clock) -> AsyncIterator[Prober]:
    """One that probes every minute of its clock, and waits half a second for a row."""
    pool = await lazy_pool(dsn, "tests", 2, writer=True)
    try:
        yield Prober(pool, url, TOKENS, 60, now=clock, held=lambda: held[0], follow=0.5)
    finally:
        pool.terminate()


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        (OK, Result.LOST, "no row of it"),
        (b"HTTP/1.1 503 Later\r\n\r\n", Result.REFUSED, "answers 503"),
        (b"HTTP/1.1 302 There\r\nlocation: /\r\n\r\n", Result.REFUSED, "redirects"),
    ],
    ids=["another server", "not durable", "redirect"],
)
def test_what_does_not_arrive_is_counted_and_after_two_in_a_row_a_warning(
    database: Database, answer: bytes, result: Result, words: str
) -> None:
    async def main() -> None:
        clock = Clock()
        async with answering(answer) as server, prober(database.dsn, server.url, [True], clock) as one:
            before = metrics.PROBES.labels(result.value)._value.get()
            assert await one.look() is result
            assert one.warnings() == []
            assert await one.look() is None, "not before a minute is over"
            clock.now += timedelta(seconds=60)
            assert await one.look() is result
            [said] = one.warnings()
            assert words in said
            assert TOKEN not in said
            assert metrics.PROBES.labels(result.value)._value.get() == before + 2
            assert metrics.PROBE_UP._value.get() == 0
            clock.now -= timedelta(hours=5)
            assert await one.look() is result, "a clock that was put back stops nothing"

    run(main())
    assert {row["result"] for row in database.fetch("select result from probe")} == {result.value}


def test_who_does_not_hold_the_duty_tells_nothing(database: Database) -> None:
    async def main() -> None:
        held = [True]
        async with answering(OK) as server, prober(database.dsn, server.url, held, Clock()) as one:
            await one.look()
            held[0] = False
            assert await one.look() is None
            assert len(server.requests) == 1
        for gauge in (metrics.PROBE_UP, metrics.PROBE_SECONDS, metrics.PROBE_LAST_SUCCESS, metrics.CERTIFICATE_EXPIRY):
            assert math.isnan(gauge._value.get())

    run(main())


def test_without_postgres_nothing_is_posted_and_nothing_judged() -> None:
    async def main() -> None:
        nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        async with answering(OK) as server, prober(nowhere, server.url, [True], Clock()) as one:
            assert await one.look() is None
            assert server.requests == []

    run(main())


def test_a_probe_that_could_not_be_made_leaves_no_old_figure(
    fresh_database: Callable[[], Database], caplog: pytest.LogCaptureFixture
) -> None:
    database = fresh_database()

    async def main() -> None:
        clock = Clock()
        async with answering(OK) as server, prober(database.dsn, server.url, [True], clock) as one:
            await one.look()
            assert metrics.PROBE_UP._value.get() == 0
            await asyncio.to_thread(database.fetch, "alter table probe rename to another")
            for _ in range(2):
                clock.now += timedelta(seconds=60)
                assert await one.look() is None
                assert math.isnan(metrics.PROBE_UP._value.get())
            assert len(server.requests) == 1

    run(main())
    assert [record.message for record in caplog.records if record.name == "receiver.probe"] == [
        "probe_failed",
        "probe_not_made",
    ]


def test_a_fault_of_ours_ends_no_process(database: Database) -> None:
    class Broken(Clock):
        asked = 0

        def __call__(self) -> datetime:
            self.asked += 1
            raise RuntimeError

    async def main() -> None:
        broken = Broken()
        async with prober(database.dsn, "http://localhost:9", [True], broken) as one:
            working = asyncio.create_task(one.run())
            await until(lambda: broken.asked >= 2)
            assert not working.done()
            await one.close()
            await working

    run(main())


def test_rows_of_more_than_a_day_ago_leave(database: Database) -> None:
    database.fetch("insert into probe (id, posted_at) select gen_random_uuid(), now() - interval '2 days'")

    async def main() -> None:
        async with answering(OK) as server, prober(database.dsn, server.url, [True], Clock()) as one:
            await one.look()

    run(main())
    assert database.value("select count(*) from probe") == 1


async def until(holds: Callable[[], bool], seconds: float = 45.0) -> None:
    """Waits without holding up the server of the test."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (another process, not an event)
            await asyncio.sleep(0.02)
