"""`receiver demo`: the whole loop on one machine, with an embedded Postgres and a simulated platform."""

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console

from receiver import logs
from receiver.access.keys import SCOPES, ensure_key, new_key, prefix_of
from receiver.app import open_house
from receiver.cli.opening import database, kept_secret, run, secret_of, watch
from receiver.cli.tables import messages_table, state_text
from receiver.cli.terminal import foreground
from receiver.client import Client, MessageWithTimeline
from receiver.database.migrate import migrate
from receiver.errors import ReceiverError
from receiver.house import House
from receiver.messages.lattice import State
from receiver.sandbox.magic import TABLE as MAGIC
from receiver.sandbox.server import build as simulated_platform
from receiver.sandbox.settings import SandboxSettings
from receiver.settings import Settings, read_settings
from receiver.workers import listen, run_beside, server_for

SPEED = 0.5  # the simulated platform's delays: every fate is told within four seconds
WATCH_SECONDS = 8.0
PLATFORM_KEY = "demo-platform-key"
STATES = {state.word: int(state) for state in State}

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the demo keeps its data; RECEIVER_DATA_DIR, or a folder of your own by default."),
]


def demo(data_dir: DataDir = None) -> None:
    """Try everything on this machine: sends six SMS through a simulated platform and shows what becomes of them.

    Needs no setting. Data and API key are kept for the next run, which sends six more. Ctrl-C ends it.
    """
    folder = data_dir or _default_folder()
    bound, platform = _bind(), listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    settings = read_settings(
        {
            "RECEIVER_DATA_DIR": str(folder.absolute()),
            "RECEIVER_PORT": str(bound.getsockname()[1]),
            "RECEIVER_PUBLIC_URL": url,
            "RECEIVER_PLATFORM_URL": f"http://127.0.0.1:{platform.getsockname()[1]}",
            "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
            "RECEIVER_LOG_LEVEL": "warning",
        }
    )
    logs.set_up(settings.log_level)
    console = Console(width=None if Console().is_terminal else 140)
    console.print("starting an embedded Postgres, a simulated platform and the receiver …", style="dim")
    with foreground(), database(settings, exclusive=True) as dsn:
        key = kept_secret(folder / "demo-api-key", new_key)
        if prefix_of(key) is None:
            raise ReceiverError(f"{folder / 'demo-api-key'} holds no key: remove it, and one is made")
        code = run(_run(settings, dsn, url, key, bound, platform, console))
    raise typer.Exit(code)


def _default_folder() -> Path:
    if chosen := os.environ.get("RECEIVER_DATA_DIR", "").strip():
        return Path(chosen).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "").strip()
    return (Path(data) if data else Path.home() / ".local" / "share") / "receiver" / "demo"


def _bind() -> socket.socket:
    """RECEIVER_PORT, or 8000, or where nobody asked for a port and 8000 is taken, any free one."""
    asked = os.environ.get("RECEIVER_PORT", "").strip()
    if asked and not (asked.isdigit() and 0 < int(asked) < 65536):
        raise ReceiverError(f"RECEIVER_PORT is {asked!r}: it takes a whole number from 1 to 65535")
    try:
        return listen("127.0.0.1", int(asked or 8000))
    except ReceiverError:
        if asked:
            raise
        return listen("127.0.0.1", 0)


class _Serving:
    """A second server as a worker beside the first."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        self._server, self._bound = server_for(app, grace=1), bound

    async def run(self) -> None:
        await self._server.serve(sockets=[self._bound])

    async def close(self) -> None:
        self._server.should_exit = True


class _Story:
    """Sends the six messages and tells what becomes of them; then waits to be closed."""

    def __init__(self, tell: Callable[[asyncio.Event], Any]) -> None:
        self._tell, self._closing = tell, asyncio.Event()

    async def run(self) -> None:
        telling = asyncio.ensure_future(self._tell(self._closing))
        waiting = asyncio.create_task(self._closing.wait())
        await asyncio.wait({telling, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            telling.result()
            await waiting
        else:
            telling.cancel()

    async def close(self) -> None:
        self._closing.set()


async def _run(
    settings: Settings, dsn: str, url: str, key: str, bound: socket.socket, platform: socket.socket, console: Console
) -> int:
    await migrate(dsn)
    sandbox_app = simulated_platform(SandboxSettings(keys=(PLATFORM_KEY,), speed=SPEED))
    async with open_house(settings, dsn, secret_of(settings)) as house:
        async with house.write_pool.acquire() as connection:
            await ensure_key(connection, house.tenants.id_of("default"), "demo", SCOPES, key)
        server = server_for(house.app, grace=1)
        story = _Story(lambda closing: _tell(server, house, url, key, console))
        workers = [
            ("story", story),
            ("sandbox", sandbox_app.state.sandbox),
            *watch(settings),
            *house.workers,
            ("platform", _Serving(sandbox_app, platform)),
        ]
        return await run_beside(server, workers, sockets=[bound], on_drain=house.drain, grace=1.0)


async def _tell(server: uvicorn.Server, house: House, url: str, key: str, console: Console) -> None:
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    with Client(url, key) as client:
        sent = await loop.run_in_executor(None, _send_six, client)
        console.print(f"sent {len(sent)} SMS; what becomes of them:")
        ends = loop.time() + WATCH_SECONDS
        seen: dict[str, str] = {}
        while loop.time() < ends and not _settled(messages := await loop.run_in_executor(None, _look, client, sent)):
            _print_changes(messages, seen, console)
            await asyncio.sleep(0.1)
        messages = await loop.run_in_executor(None, _look, client, sent)
        _print_changes(messages, seen, console)
    console.print()
    console.print(messages_table(messages, "What is known"))
    _print_how_to_go_on(console, url, key, messages)


def _send_six(client: Client) -> list[str]:
    """One message to each magic number, each in a call of its own."""
    sent = []
    for magic in MAGIC:
        body = {
            "deliverychannel": "sms",
            "channels": {"sms": {"type": "1", "text": f"This is to be {magic.name}.", "senderid": "DEMO"}},
            "destination": [{"msisdn": [magic.number], "correlationid": f"demo-{magic.name}".replace(" ", "-")}],
        }
        sent.append(str(client.send(body)["messages"][0]["id"]))
    return sent


def _look(client: Client, sent: list[str]) -> list[MessageWithTimeline]:
    return [client.get(identity) for identity in sent]


def _settled(messages: list[MessageWithTimeline]) -> bool:
    """All that will be told has been told: only the silent one is open."""
    return sum(not message["final"] for message in messages) <= 1


def _print_changes(messages: list[MessageWithTimeline], seen: dict[str, str], console: Console) -> None:
    """A line for each state that a message came into since the last look, in the order in which we heard of them."""
    for message in messages:
        known = sorted(message["timeline"], key=lambda entry: datetime.fromisoformat(entry["received_at"]))
        for entry in known:
            before = seen.setdefault(message["id"], "queued")
            if entry["state"] and STATES[entry["state"]] > STATES[before]:
                at = entry["received_at"][11:19]
                console.print(f"{at}  {message['destination']}  {before} → ", state_text(entry["state"]), sep="")
                seen[message["id"]] = entry["state"]


def _print_how_to_go_on(console: Console, url: str, key: str, messages: list[MessageWithTimeline]) -> None:
    failed = next(m for m in messages if m["reason"])
    number = failed["destination"]
    again = '{"deliverychannel":"sms","channels":{"sms":{"text":"Hello"}},"destination":[{"msisdn":["447700900001"]}]}'
    lines = (
        "",
        f"The receiver answers on {url}",
        f"API key: {key}",
        "",
        "Did it arrive, and if not, why?",
        f"  curl -s -H 'Authorization: Bearer {key}' {url}/v1/messages/{failed['id']}",
        "Everything that was sent to a number:",
        f"  curl -s -H 'Authorization: Bearer {key}' '{url}/v1/messages?destination={number}'",
        "Send one more:",
        f"  curl -s -H 'Authorization: Bearer {key}' {url}/v1/messages -d '{again}'",
        "",
        f"Figures for Prometheus: {url}/metrics   The contract: {url}/openapi.json   Ctrl-C ends it.",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
