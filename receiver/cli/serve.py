"""`receiver serve`: the doors and the workers behind them, until a signal."""

import gc
import logging
import os
import signal
import socket
import ssl
import sys
from typing import Annotated

import typer

from receiver import logs
from receiver.app import open_house
from receiver.cli.opening import database, run, secret_of, watch
from receiver.settings import Settings, read_settings
from receiver.stopping import LastResort, Stopping, heard_signals
from receiver.workers import listen, run_beside, server_for, tls_context

log = logging.getLogger("receiver.process")

REQUEST_SECONDS = 10  # of the 20 that an end may take: for requests under way, and before them for balancers
YOUNG_OBJECTS = 20_000  # some groups of 256 receipts, and what the answers to them need

Roles = Annotated[
    str | None,
    typer.Option(
        metavar="ROLE,ROLE",
        help="What this process does, commas between; all by default, or RECEIVER_ROLES. "
        "notify: the receipts door. api: /v1 and the drop-in doors. dispatch: calls the platform, tells receipts on. "
        "upkeep: background duties, done by one process at a time.",
    ),
]


def serve(roles: Roles = None) -> None:
    """Serve the doors and do the work of the roles. Settings come from RECEIVER_…: see docs/settings.md.

    Exactly one of RECEIVER_DATABASE_URL and RECEIVER_DATA_DIR names the database; run `receiver migrate` first. While
    it is away the receiver starts all the same, and goes on when it comes back.

    /livez, /readyz and /metrics answer in every role. SIGTERM and Ctrl-C finish what is in hand and leave with 0
    within 20 seconds; a second one leaves at once.
    """
    for number in heard_signals():  # until the loop hears them
        signal.signal(number, _leave)
    settings = read_settings(os.environ if roles is None else {**os.environ, "RECEIVER_ROLES": roles})
    logs.set_up(settings.log_level)
    tls = tls_context(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    bound = _listen(settings)
    last = (
        LastResort()
    )  # never called off: an embedded Postgres may hang when all else has ended, or a thread of the spool
    with database(settings, exclusive=True) as dsn:
        code = run(_serve(settings, dsn, secret_of(settings), bound, tls, last))
    raise typer.Exit(code)


def _leave(number: int, frame: object) -> None:
    """A stop signal before there is anything in hand, or after."""
    raise SystemExit(0)


def _listen(settings: Settings) -> list[socket.socket]:
    """The port, and where the receipts door has one of its own, that too."""
    bound = [listen(settings.host, settings.port, reuse=settings.reuse_port)]
    if settings.notify_port and "notify" in settings.roles:
        bound.append(listen(settings.notify_host, settings.notify_port, setting="NOTIFY_", reuse=settings.reuse_port))
    return bound


async def _serve(
    settings: Settings,
    dsn: str,
    secret: str,
    bound: list[socket.socket],
    tls: ssl.SSLContext | None,
    last: LastResort,
) -> int:
    with Stopping() as stopping:
        async with open_house(settings, dsn, secret, must_be_there=False) as house:

            def drain() -> None:
                house.drain()
                last.begin(0 if stopping.signals else 1, at_once=stopping.at_once.is_set())

            server = server_for(house.served, REQUEST_SECONDS - settings.drain_seconds, tls)
            workers = [*watch(settings), *house.workers]
            for one in bound:
                host, port = one.getsockname()[:2]
                url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
                _tell(url, receipts_alone=one is not bound[0])
            _spare_the_collector()
            notice = settings.drain_seconds
            return await run_beside(server, workers, sockets=bound, on_drain=drain, notice=notice, stopping=stopping)


def _tell(url: str, *, receipts_alone: bool) -> None:
    """Where it listens: a sentence at a terminal, an event elsewhere."""
    if sys.stderr.isatty():
        typer.echo(f"{'the receipts door alone' if receipts_alone else 'receiver'} listens on {url}", err=True)
    else:
        log.info("listening", extra={"address": url, "doors": "notify" if receipts_alone else "all"})


def _spare_the_collector() -> None:
    """What is here by now stays: looking through it again and again held all receipts up, for some 50 ms each time.

    And a group of receipts on its way is no garbage: the collector comes when there is more than some groups hold.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
