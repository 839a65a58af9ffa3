"""So many requests a turn of the event loop, whoever else has something to say."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from receiver.turns import MOST
from receiver.workers import Server, listen, server_for

CROWD = 5 * MOST
REQUEST = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Counting:
    """Answers with the path; knows how many requests began in each turn of the loop, and in which order."""

    def __init__(self) -> None:
        self.turns: list[int] = [0]
        self.paths: list[str] = []
        self.counting = True
        self.server: Server

    def turn(self) -> None:
        """One more turn has begun."""
        self.turns.append(0)
        if self.counting:
            asyncio.get_running_loop().call_soon(self.turn)

    async def __call__(self, scope: dict[str, object], receive: Callable[[], Awaitable[object]], send: object) -> None:
        self.turns[-1] += 1
        self.paths.append(str(scope["path"]))
        body = str(scope["path"]).encode()
        length = [(b"content-length", b"%d" % len(body))]
        assert callable(send)
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})


async def served(work: Callable[[int, Counting], Awaitable[None]]) -> Counting:
    app = Counting()
    bound = listen("127.0.0.1", 0)
    server = app.server = server_for(app)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        async with asyncio.timeout(30):
            await work(bound.getsockname()[1], app)
    finally:
        app.counting = False
        server.should_exit = True
        await task
    return app


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


def test_a_crowd_is_heard_over_several_turns_and_everybody_is_answered() -> None:
    async def work(port: int, app: Counting) -> None:
        crowd: list[Streams] = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CROWD)]
        for number, (_, writer) in enumerate(crowd):  # all at once: nobody is heard before this loop yields
            writer.write(REQUEST % number)
        app.turn()
        answers = await asyncio.gather(*(answer(reader) for reader, _ in crowd))
        assert answers == [b"/%d" % number for number in range(CROWD)]
        for _, writer in crowd:
            writer.close()

    app = uvloop.run(served(work))
    assert sum(app.turns) == len(app.paths) == CROWD
    assert max(app.turns) <= MOST, max(app.turns)


def test_what_one_connection_says_is_heard_in_its_order() -> None:
    async def work(port: int, app: Counting) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(CROWD):
            request = REQUEST % number
            writer.write(request[:20])
            writer.write(request[20:])
            if number % 7 == 0:
                await asyncio.sleep(0)
        for number in range(CROWD):
            assert await answer(reader) == b"/%d" % number
        writer.close()

    app = uvloop.run(served(work))
    assert app.paths == [f"/{number}" for number in range(CROWD)]


def test_what_a_connection_says_before_its_turn_is_not_kept_without_end() -> None:
    async def work(port: int, app: Counting) -> None:
        kind: Any = app.server.config.http
        turns = kind.turns
        turns._left, turns._is_counting = 0, True  # nobody's turn comes
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 64000000\r\n\r\n" + b"x" * 64_000_000)
        kept: list[int] = []
        while len(kept) < 2 or not kept[-1] or kept[-1] != kept[-2]:  # until nothing more comes
            kept.append(sum(len(data) for _, data in turns._waiting))
            await asyncio.sleep(0.1)
        assert kept[-1] < 1_000_000
        writer.transport.abort()

    uvloop.run(served(work))


def test_who_leaves_before_his_turn_disturbs_nobody() -> None:
    async def work(port: int, app: Counting) -> None:
        crowd: list[Streams] = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CROWD)]
        for number, (_, writer) in enumerate(crowd):
            writer.write(REQUEST % number)
            if number % 2:
                writer.transport.abort()
        stayed = [reader for number, (reader, _) in enumerate(crowd) if not number % 2]
        answers = await asyncio.gather(*(answer(reader) for reader in stayed))
        assert answers == [b"/%d" % number for number in range(0, CROWD, 2)]
        for _, writer in crowd[::2]:
            writer.close()

    uvloop.run(served(work))
