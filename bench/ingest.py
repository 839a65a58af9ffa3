"""How fast receipts are made durable and applied, beside what they are compared with, in turns in one run.

`python -m bench.ingest [--seconds 5] [--rounds 5] [--only ours,nothing] [--variants issued,observed,again,dialects]`.

wrk sends distinct receipts over 64 connections; each server is a process of its own on this machine, and so is the
one Postgres (embedded, with fsync). After each run the rows, the states, the change log and the ledger are held
against what was answered 200.
"""

import argparse
import asyncio
import contextlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import bodies, proof
from bench.costs import Postgres, memory, processor_seconds
from bench.issued import Issued, issue
from bench.report import Section, Stepper, Verdict, steps
from bench.servers import server_process
from bench.stage import pre_size_log, stage
from bench.wrk import Load, RanOut, drive, require_wrk, write_requests
from receiver.database.pool import connect
from receiver.ids import TenantId, new_id
from tests.support import Database, receiver_process

NAMES = {
    "nothing": "Starlette, reads the body and answers",
    "parsing": "raw ASGI, parses and forgets",
    "ours": "receiver serve",
    "one_by_one": "one transaction a request, asyncpg, our schema",
    "usual": "FastAPI and SQLAlchemy ORM",
}
GUESS = {"nothing": 40_000, "parsing": 70_000, "ours": 22_000, "one_by_one": 4_000, "usual": 900}  # requests/s
STORES = ("ours", "one_by_one")
VARIANTS = {
    "issued": "issued messages, submitted and delivered",
    "observed": "messages known by this receipt alone",
    "again": "issued, three of ten told twice",
    "dialects": "issued, all shapes of the samples",
}
OF_NOTHING, OF_ONE_BY_ONE, OF_USUAL = 0.45, 3.0, 25.0
MOST_MEGABYTES = 150.0


@dataclass
class Run:
    """One turn of one server: the load, and what it cost a request in microseconds and bytes."""

    load: Load
    server: float
    postgres: float
    log_bytes: float

    def __post_init__(self) -> None:
        self.wrk = self.load.processor / self.load.answered * 1e6


@dataclass
class Server:
    """A server that runs, and its turns."""

    port: int
    pid: int
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def median(self, variant: str, figure: Callable[[Run], float]) -> float:
        """Of all turns."""
        return statistics.median(figure(run) for run in self.runs[variant])


@dataclass
class Bench:
    """One database, the servers on it, and what they are sent."""

    database: Database
    folder: Path
    postgres: Postgres
    tenant: TenantId
    seconds: float
    guess: dict[str, float] = field(default_factory=lambda: dict(GUESS))
    of_nobody: int = 0
    before: Callable[[], object] = lambda: None  # right before the load
    after: Callable[[], object] = lambda: None  # right after it

    def turn(self, name: str, server: Server, variant: str) -> None:
        """One run of one server; again with more requests where they ran out."""
        while True:
            number = int(self.guess[name] * self.seconds) + 2_000
            first = new_id()
            folder, duplicates = self._lay_down(name, variant, number)
            usual = self._usual() if name == "usual" else 0
            self.before()
            try:
                run = self._drive(server, folder)
            except RanOut:
                self.guess[name] *= 1.6
                continue
            self.after()
            self.guess[name] = min(self.guess[name], run.load.rate * 1.6)
            break
        if name in STORES:
            asyncio.run(proof.prove(self.database.dsn, run.load, first, duplicates))
        elif name == "usual":
            stored = self._usual() - usual
            proof.demand(run.load.good <= stored <= run.load.sent, f"{stored} rows for {run.load.good} answers")
        proof.demand(run.load.good == run.load.answered, f"{run.load.answered - run.load.good} were not answered 200")
        server.runs.setdefault(variant, []).append(run)

    def _usual(self) -> int:
        return int(self.database.value("select count(*) from usual_receipt"))

    def _lay_down(self, name: str, variant: str, number: int) -> tuple[Path, float]:
        """Prepares the messages and writes the requests: where, and the share of them that tell again."""
        if name not in (*STORES, "usual"):  # nobody knows whether these came before
            if number > self.of_nobody:
                self.of_nobody = number
                write_requests(self.folder, bodies.of_nobody(number), "nobody")
            return self.folder / "nobody", 0.0
        if variant == "observed":
            self._write(bodies.of_observed(number))
        elif name == "usual":
            issued = asyncio.run(issue_usual(self.database.dsn, number // 2))
            self._write(bodies.of_issued(issued))
        else:
            made = {"again": bodies.of_issued_and_again, "dialects": bodies.of_dialects}.get(variant, bodies.of_issued)
            issued = asyncio.run(issue(self.database.dsn, self.tenant, number // 2))
            self._write(made(issued))
        return self.folder / "requests", bodies.TWICE if variant == "again" else 0.0

    def _write(self, requests: Iterable[bytes]) -> None:
        write_requests(self.folder, requests)

    def _drive(self, server: Server, requests: Path) -> Run:
        log = asyncio.run(self.postgres.log_bytes())
        ours, theirs = processor_seconds(server.pid), processor_seconds(self.postgres.pid)
        load = drive(requests, server.port, self.seconds)
        ours, theirs = processor_seconds(server.pid) - ours, processor_seconds(self.postgres.pid) - theirs
        written = asyncio.run(self.postgres.log_bytes()) - log
        micro = 1e6 / load.answered
        return Run(load, ours * micro, theirs * micro, written / load.answered)


async def issue_usual(dsn: str, number: int) -> list[Issued]:
    """Messages for the tables of the usual way."""
    from bench.usual import make_tables

    await make_tables(dsn)
    made = [Issued(new_id(), new_id(), str(447_100_000_000 + n), str(new_id()), "") for n in range(number)]  # type: ignore[arg-type]
    connection = await connect(dsn, "bench")
    records = [(m.id, m.destination, m.transid, 10) for m in made]
    columns = ["id", "destination", "transid", "state"]
    await connection.copy_records_to_table("usual_message", records=records, columns=columns)
    await connection.close()
    return made


def measure(
    seconds: float, rounds: int, only: Sequence[str] = tuple(NAMES), variants: Sequence[str] = tuple(VARIANTS)
) -> Section:
    """Runs the turns. Raises proof.NotTrue when the database does not hold what was answered."""
    require_wrk()
    turns = [(name, "issued") for name in only for _ in range(rounds)]
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(steps("ingest", len(turns) + len(variants) - 1))
        database, folder = stack.enter_context(stage())
        asyncio.run(pre_size_log(database.dsn))
        receiver = stack.enter_context(receiver_process(database, folder))
        servers = {"ours": Server(int(receiver.url.rpartition(":")[2]), receiver.process.pid)}
        if "usual" in only:
            asyncio.run(issue_usual(database.dsn, 0))
        for name in only:
            if name != "ours":
                servers[name] = Server(*stack.enter_context(server_process(name, database.dsn, folder)))
        postgres = asyncio.run(Postgres.of(database.dsn))
        bench = Bench(database, folder, postgres, database.tenant(), seconds)
        for number in range(rounds):
            for name in only:
                _take(step, bench, name, servers[name], "issued", f"round {number + 1}")
        for variant in variants:
            if "ours" in only and variant != "issued":
                for _ in range(max(rounds // 2, 1)):
                    _take(step, bench, "ours", servers["ours"], variant, VARIANTS[variant])
        most = {name: memory(server.pid, "VmHWM") for name, server in servers.items()}
    return _section({name: servers[name] for name in NAMES if name in only}, most)


def _take(step: Stepper, bench: Bench, name: str, server: Server, variant: str, doing: str) -> None:
    step(f"{doing}, {name}")
    bench.turn(name, server, variant)
    step.done()


def _section(servers: dict[str, Server], most: dict[str, float]) -> Section:
    heads = ("", "requests/s", "of a door that does nothing", "CPU us here", "CPU us Postgres", "CPU us wrk")
    section = Section("Ingest", (*heads, "log bytes a receipt", "p50 ms", "most MB"))
    idle = servers["nothing"].median("issued", _rate) if "nothing" in servers else None
    for name, server in servers.items():
        for variant in server.runs:
            what = NAMES[name] + (f": {VARIANTS[variant]}" if name == "ours" else "")
            section.rows.append(_row(what, server, variant, idle, most[name]))
    if "ours" in servers:
        ours = section.figures["sustained"] = servers["ours"].median("issued", _rate)
        for other, demanded in (("nothing", OF_NOTHING), ("one_by_one", OF_ONE_BY_ONE), ("usual", OF_USUAL)):
            if other in servers:
                found = ours / servers[other].median("issued", _rate)
                section.verdicts.append(Verdict(f"ingest: times {NAMES[other]}", found, demanded))
        section.verdicts.append(Verdict("memory of the process", most["ours"], MOST_MEGABYTES, False, " MB"))
    return section


def _rate(run: Run) -> float:
    return run.load.rate


def _row(what: str, server: Server, variant: str, idle: float | None, most: float) -> list[str]:
    rate = server.median(variant, _rate)
    stores = server.median(variant, lambda run: run.log_bytes) > 50
    return [
        what,
        f"{rate:,.0f}",
        f"{rate / idle:.2f}" if idle else "",
        f"{server.median(variant, lambda run: run.server):.0f}",
        f"{server.median(variant, lambda run: run.postgres):.0f}" if stores else "",
        f"{server.median(variant, lambda run: run.wrk):.0f}",
        f"{server.median(variant, lambda run: run.log_bytes):,.0f}" if stores else "",
        f"{server.median(variant, lambda run: run.load.p50):.1f}",
        f"{most:.0f}",
    ]


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    chosen = parser.parse_args()
    measure(chosen.seconds, chosen.rounds, chosen.only.split(","), chosen.variants.split(",")).print()


if __name__ == "__main__":
    main()
