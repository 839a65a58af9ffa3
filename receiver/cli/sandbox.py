"""`receiver sandbox`: the simulated platform alone. It needs no database, and imports nothing of what serves."""

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from receiver import logs
from receiver.sandbox.capture import read as read_capture
from receiver.sandbox.plays import Asked, BadPlay, once
from receiver.sandbox.scenario import read_toml
from receiver.sandbox.server import build as simulated_platform
from receiver.sandbox.settings import PROFILES, SandboxSettings
from receiver.workers import listen, run_beside, server_for


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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_sandbox(settings, bound, played))
    raise typer.Exit(code)


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
