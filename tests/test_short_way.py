"""A request that is taken at once is answered as any other; whatever is unusual goes to the application."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from receiver.at_once import Answer, said
from receiver.short_way import ShortWay
from receiver.workers import IDLE_SECONDS, Server, listen, server_for

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4"), (b"x-way", b"any")]}
BODY = {"type": "http.response.body", "body": b"done"}
DONE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-way: any\r\n\r\ndone"
CLOSING = DONE.replace(b"any\r\n", b"any\r\nconnection: close\r\n")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(path: str, body: bytes = b"hi", *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST %s HTTP/%s" % (path.encode(), version), b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class TwoWays:
    """Takes at once what comes to /short..., says which way each request went, and answers now, or when told to."""

    def __init__(self) -> None:
        self.short: list[tuple[str, bytes]] = []
        self.long: list[tuple[str, bytes]] = []
        self.waiting: list[Answer] = []
        self.waits = False
        self.server: Server

    def at_once(self, scope: Scope, body: bytes, answer: Answer) -> bool:
        if not scope["path"].startswith("/short"):
            return False
        self.short.append((scope["path"], body))
        if self.waits:
            self.waiting.append(answer)
        else:
            answer(said(START, BODY))
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.long.append((scope["path"], body))
        await send(START)
        await send(BODY)


def served(work: Callable[[TwoWays, Callable[[], Awaitable[Streams]]], Awaitable[None]]) -> TwoWays:
    async def main() -> TwoWays:
        app, opened, bound = TwoWays(), list[asyncio.StreamWriter](), listen("127.0.0.1", 0)
        server = app.server = server_for(app)
        task = asyncio.create_task(server.serve(sockets=[bound]))

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
            opened.append(writer)
            return reader, writer

        try:
            async with asyncio.timeout(30):
                await work(app, connect)
        finally:
            for writer in opened:
                writer.close()
            server.should_exit = True
            await task
        return app

    return uvloop.run(main())


async def until(holds: Callable[[], Any]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for is the server's own
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (post("/{}"), DONE),
        (post("/{}", b"h" * 60_000), DONE),
        (post("/{}", b"hi", b"connection: close"), CLOSING),
        (post("/{}", version=b"1.0"), CLOSING),
        (post("/{}", b""), DONE),
    ],
    ids=["usual", "large", "close", "HTTP/1.0", "empty"],
)
def test_both_ways_give_the_same_bytes(request_: bytes, answer: bytes) -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        for way in (b"short", b"long"):
            reader, writer = await connect()
            writer.write(request_.replace(b"{}", way))
            assert await reader.readexactly(len(answer)) == answer
            if answer is CLOSING:
                assert await reader.read() == b"", "and the connection ends"

    app = served(work)
    body = request_.partition(b"\r\n\r\n")[2]
    assert (app.long, len(app.short)) == ([("/long", body)], 1) or len(body) > 50_000
    assert app.short == [("/short", body)] or len(body) > 50_000, "what comes in pieces goes the long way"


@pytest.mark.parametrize(
    ("pieces", "way"),
    [
        ([post("/short")], "short"),
        ([post("/short")[:-1], b"i"], "long"),
        ([post("/short").partition(b"hi")[0], b"hi"], "long"),
        ([post("/short", b"hi", b"expect: 100-continue")], "long"),
        ([post("/short").replace(b"POST", b"GET ", 1).replace(b"GET  ", b"GET ", 1)], "long"),
        ([post("/long")], "long"),
    ],
    ids=["whole", "last byte apart", "body apart", "expect", "GET", "not taken"],
)
def test_what_is_unusual_goes_the_long_way_and_keeps_its_body(pieces: list[bytes], way: str) -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        for number, piece in enumerate(pieces):
            writer.write(piece)
            if number + 1 < len(pieces):  # the server has read the first when its connection has a request
                await until(partial(has_begun, app))
        await reader.readuntil(b"done")

    app = served(work)
    assert [body for _, body in getattr(app, way)] == [b"hi"]
    assert len(app.short) + len(app.long) == 1


def has_had(app: TwoWays, number: int) -> bool:
    """Whether so many requests have gone either way."""
    return len(app.waiting) + len(app.short) + len(app.long) >= number


def has_begun(app: TwoWays) -> bool:
    """Whether the head of a request has been read."""
    return any(isinstance(one, ShortWay) and one.is_answering for one in app.server.server_state.connections)


def test_a_pipeline_is_answered_in_its_order() -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        app.waits = True
        reader, writer = await connect()
        writer.write(post("/short/1", b"a") + post("/long/2", b"b") + post("/short/3", b"c"))
        await until(lambda: app.waiting)
        assert not app.long, "the second waits for the first"
        app.waiting[0](said(START, BODY))
        assert await reader.readexactly(3 * len(DONE)) == 3 * DONE

    app = served(work)
    assert app.short == [("/short/1", b"a")]
    assert app.long == [("/long/2", b"b"), ("/short/3", b"c")]


RUBBISH = b"}\x00rubbish\r\n\r\n"


@pytest.mark.parametrize("way", ["short", "long"])
def test_rubbish_behind_a_request_does_not_cost_it_its_answer(way: str) -> None:
    """A 400 would be taken for the answer to a receipt that is stored, and that is never told again."""

    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(post(f"/{way}") + RUBBISH)
        assert await reader.read() == CLOSING

    app = served(work)
    assert [body for _, body in getattr(app, way)] == [b"hi"]


def test_rubbish_while_a_request_waits_does_not_cost_it_its_answer() -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        app.waits = True
        reader, writer = await connect()
        writer.write(post("/short"))
        await until(lambda: app.waiting)
        writer.write(RUBBISH)
        await until(lambda: not connection_of(app).cycle.keep_alive)
        app.waiting[0](said(START, BODY))
        assert await reader.read() == CLOSING

    served(work)


def connection_of(app: TwoWays) -> ShortWay:
    (connection,) = app.server.server_state.connections
    assert isinstance(connection, ShortWay)
    return connection


def test_rubbish_alone_is_a_bad_request() -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"\x00rubbish\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    app = served(work)
    assert not app.short + app.long


def test_a_flood_of_pipelined_requests_is_read_no_faster_than_it_is_answered() -> None:
    """uvicorn lets in another 256 KB with each answer: 700 MB in three seconds, from one connection."""

    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        app.waits = True
        _, writer = await connect()
        flood = asyncio.create_task(pour(writer))
        most = 0
        for answered in range(200):
            await until(partial(has_had, app, answered + 1))
            most = max(most, len(connection_of(app).pipeline))
            for answer in app.waiting:
                answer(said(START, BODY))
            app.waiting.clear()
        flood.cancel()
        assert 0 < most < 20_000, "about one segment of them"
        writer.transport.abort()

    async def pour(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(post("/short/flood", b"") * 1000)
            await writer.drain()

    served(work)


def test_an_idle_connection_keeps_no_body() -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(post("/short", b"h" * 5_000))
        assert await reader.readexactly(len(DONE)) == DONE
        assert not connection_of(app).cycle.body

    served(work)


def test_who_aborts_a_pipeline_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        for number in range(50):
            _, writer = await connect()
            writer.write(post(f"/long/{number}") * 40)
            await until(partial(has_had, app, 2 * number + 1))
            writer.transport.abort()

    served(work)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_one_connection_serves_many(caplog: pytest.LogCaptureFixture) -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        for number in range(50):
            writer.write(post(f"/{'short' if number % 3 else 'long'}/{number}", b"%d" % number))
            assert await reader.readexactly(len(DONE)) == DONE
        assert app.server.server_state.total_requests == 50

    app = served(work)
    assert len(app.short) == 33
    assert not caplog.records


def test_a_client_that_is_gone_when_its_answer_comes_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        app.waits = True
        _, writer = await connect()
        reader, other = await connect()
        writer.write(post("/short/gone"))
        await until(lambda: len(app.waiting) == 1)
        other.write(post("/short/there"))
        await until(lambda: len(app.waiting) == 2)
        writer.transport.abort()
        await until(lambda: len(app.server.server_state.connections) == 1)
        for answer in app.waiting:
            answer(said(START, BODY))
        assert await reader.readexactly(len(DONE)) == DONE

    served(work)
    assert not caplog.records


def test_who_waits_as_the_server_ends_is_answered_and_then_the_connection_ends() -> None:
    async def work(app: TwoWays, connect: Callable[[], Awaitable[Streams]]) -> None:
        app.waits = True
        reader, writer = await connect()
        writer.write(post("/short"))
        await until(lambda: app.waiting)
        app.server.should_exit = True
        await asyncio.sleep(IDLE_SECONDS * 1.5)  # longer than who has nothing under way may stay
        app.waiting[0](said(START, BODY))
        assert await reader.read() == CLOSING

    served(work)
