"""`receiver serve` and `receiver sandbox`: the long-running commands."""

import gc
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Annotated

import typer

from receiver import logs
from receiver.app import open_house
from receiver.cli.opening import database, run, secret_of, watch
from receiver.sandbox.capture import read as read_capture
from receiver.sandbox.plays import Asked, BadPlay, once
from receiver.sandbox.scenario import read_toml
from receiver.sandbox.server import build as simulated_platform
from receiver.sandbox.settings import PROFILES, SandboxSettings
from receiver.settings import Settings, read_settings
from receiver.stopping import LastResort, Stopping, heard_signals
from receiver.workers import listen, run_beside, server_for, tls_context

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

            server = server_for(house.served, tls=tls)
            workers = [*watch(settings), *house.workers]
            for one in bound:
                host, port = one.getsockname()[:2]
                url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
                what = "receiver listens" if one is bound[0] else "the receipts door alone listens"
                typer.echo(f"{what} on {url}", err=True)
            _spare_the_collector()
            return await run_beside(server, workers, sockets=bound, on_drain=drain, stopping=stopping)


def _spare_the_collector() -> None:
    """What is here by now stays: looking through it again and again held all receipts up, for some 50 ms each time.

    And a group of receipts on its way is no garbage: the collector comes when there is more than some groups hold.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


def sandbox(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, on loopback.")] = 8001,
    key: Annotated[list[str] | None, typer.Option(help="A service or profile key that it accepts: sandbox.")] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=SECRET", help="A service whose signed tokens it accepts; the secret in base64."),
    ] = None,
    campaign_token: Annotated[
        list[str] | None, typer.Option(help="A bearer that Webex Campaign accepts: sandbox.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Factor on the platform's delays: 0.1 is ten times faster.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides what happens to numbers that are not magic.")] = 0,
    profile: Annotated[str, typer.Option(help="honest, or hostile: with all that goes wrong (docs/sandbox.md).")] = (
        "honest"
    ),
    tellers: Annotated[int, typer.Option(min=1, help="The most receipts on their way at one time.")] = 32,
    transids: Annotated[str, typer.Option(help="One a request, an entry or a value, or suffixed.")] = "request",
    answer_ms: Annotated[float, typer.Option(min=0, help="Milliseconds from a request to its answer.")] = 0.0,
    campaign_status: Annotated[int, typer.Option(help="200, or 500: the status of what Campaign refuses.")] = 200,
    scenario: Annotated[Path | None, typer.Option(help="A file of steps: which calls meet which trouble.")] = None,
    lose: Annotated[float, typer.Option(min=0, max=1, help="The share of receipts that is dropped for ever.")] = 0.0,
    notifyurl: Annotated[str, typer.Option(help="Where what names no notifyurl is told, on loopback.")] = "",
    play: Annotated[
        list[Path] | None, typer.Option(help="A file of `receiver capture`, told to --notifyurl; may be given again.")
    ] = None,
) -> None:
    """Simulate the platform: its APIs, their answers and their receipts, on this machine.

    Magic numbers: 447700900001 delivered, …2 undelivered, …3 failed, …4 silent, …5 told twice, …6 told before the
    answer.
    """
    if profile not in PROFILES:
        raise typer.BadParameter("honest or hostile", param_hint="--profile")
    keys = tuple(key or ("sandbox",))
    try:
        settings = SandboxSettings(
            keys=keys,
            services=dict(_pair(one) for one in service or ()),
            campaign_tokens=tuple(campaign_token or ("sandbox",)),
            speed=speed,
            seed=seed,
            profile=PROFILES[profile],
            tellers=tellers,
            transids=transids,  # type: ignore[arg-type]  # judged by the settings
            answer_ms=answer_ms,
            campaign_status=campaign_status,
            scenario=() if scenario is None else read_toml(scenario.read_bytes()),
            lose=lose,
            notifyurl=notifyurl,
        )
        played = [once(read_capture(file.read_bytes()), settings) for file in play or ()]
    except (ValueError, OSError, BadPlay) as error:
        raise typer.BadParameter(str(error)) from None
    logs.set_up("info")
    bound = listen("127.0.0.1", port)
    typer.echo(f"the simulated platform listens on http://127.0.0.1:{port} (key: {', '.join(keys)})", err=True)
    raise typer.Exit(run(_sandbox(settings, bound, played)))


def _pair(service: str) -> tuple[str, str]:
    """Raises ValueError, without the secret."""
    identity, _, secret = service.partition("=")
    if not identity or not secret:
        raise ValueError("--service: ID=SECRET")
    return identity, secret


async def _sandbox(settings: SandboxSettings, bound: socket.socket, played: list[Asked]) -> int:
    app = simulated_platform(settings)
    for one in played:
        await app.state.sandbox.play(one)
    return await run_beside(server_for(app), [("sandbox", app.state.sandbox)], sockets=[bound])
