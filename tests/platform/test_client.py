"""Calls over real sockets: what was surely not sent is told from what may have been."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from receiver.platform.apis import Api
from receiver.platform.calls import call_of
from receiver.platform.client import LARGEST_ANSWER, PlatformClient
from receiver.platform.credentials import Bearer, Key
from receiver.platform.wire import Answer, Call, Outcome, Recipient, Trouble

pytestmark = pytest.mark.anyio

KEY = Key("the-service-key-of-the-shop")
SMALL = Call("/resources/v1/messaging", b'{"deliverychannel":"sms"}')
LARGE = Call("/resources/v1/messaging", b"[" + b"1," * 1_000_000 + b"1]")
QUEUED = b'{"response":[{"code":"1001","transid":"t-1","description":"Queued"}]}'

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the service, and that of the commands: how much of a body is held back differs by loop."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class Seen:
    """What came in at a platform that is a bare socket."""

    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def length_of(head: str) -> int:
    (length,) = [int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")]
    return length


def answering(seen: Seen, *replies: bytes, keep: bool = False) -> Handler:
    """Reads a call as a whole, answers with the next of the replies, and hangs up unless it is to keep."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.heads.append(head := await read_head(reader))
            seen.bodies.append(await reader.readexactly(length_of(head)))
            writer.write(replies[min(len(seen.bodies), len(replies)) - 1])
            await writer.drain()
            if not keep:
                return

    return handle


@contextlib.asynccontextmanager
async def platform(handle: Handler, buffer: int | None = None) -> AsyncIterator[str]:
    """The address of a socket on loopback; `buffer` bytes at most wait there to be read."""
    listening = socket.socket()
    if buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    listening.bind(("127.0.0.1", 0))

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await handle(reader, writer)
        writer.close()

    async with await asyncio.start_server(served, sock=listening, limit=4096 if buffer else 2**16) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def sent(url: str, call: Call, api: Api = Api.MESSAGING, timeout: float = 5.0) -> Answer:
    async with PlatformClient(timeout, 2) as client:
        return await client.send(url, KEY, api, call)


def judged(answer: Answer) -> tuple[Outcome, Trouble | None]:
    return answer.outcome, answer.trouble


NOT_SENT = (Outcome.NOT_SENT, Trouble.UNREACHABLE)
UNCERTAIN = (Outcome.UNCERTAIN, None)
PATIENT = 2.0  # seconds: on a busy machine a request may take a good part of one to get out at all


async def test_a_call_goes_out_as_one_request_of_known_length_with_the_credentials() -> None:
    seen = Seen()
    async with platform(answering(seen, reply(200, QUEUED))) as url, PlatformClient(5, 1) as client:
        answer = await client.send(url + "/base", Bearer("a-token"), Api.MESSAGING, LARGE)
    assert (answer.outcome, answer.raw, answer.http_status) == (Outcome.ACCEPTED, QUEUED, 200)
    head = seen.heads[0].lower()
    assert head.startswith("post /base/resources/v1/messaging http/1.1\r\n")
    assert "authorization: bearer a-token\r\n" in head
    assert "content-type: application/json\r\n" in head
    assert f"content-length: {len(LARGE.body)}\r\n" in head
    assert "transfer-encoding" not in head
    assert seen.bodies == [LARGE.body]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072])
async def test_a_body_of_any_size_arrives_as_a_whole(size: int) -> None:
    seen = Seen()
    async with platform(answering(seen, reply(200, QUEUED))) as url:
        answer = await sent(url, Call("/x", bytes(i % 251 for i in range(size))))
    assert answer.outcome is Outcome.ACCEPTED
    assert seen.bodies == [bytes(i % 251 for i in range(size))]


@pytest.mark.parametrize("api", Api)
async def test_each_api_is_called_on_its_path_and_judged_by_its_own_rules(api: Api) -> None:
    seen = Seen()
    bodies = {
        Api.MESSAGING: (200, QUEUED),
        Api.MESSAGING_V2: (201, b'{"messageId":"t-1"}'),
        Api.EVENTS: (200, QUEUED.replace(b"1001", b"1002")),
        Api.CAMPAIGN: (500, b'{"transaction-id":"t-1"}'),
    }
    call = call_of(api, b'{"events":[{}]}', [Recipient(UUID(int=1), "msisdn", "1")], "https://ours.example")
    async with platform(answering(seen, reply(*bodies[api]))) as url:
        answer = await sent(url, call, api)
    assert (answer.outcome, [item.transid for item in answer.items]) == (Outcome.ACCEPTED, ["t-1"])
    assert seen.heads[0].startswith(f"POST {call.path} HTTP/1.1")
    assert json.loads(seen.bodies[0]) == json.loads(call.body)


# Before the body was taken


async def test_503_from_a_server_that_closes_before_it_read_the_body_has_sent_nothing() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(reply(503, b"busy", "connection: close", "retry-after: 7"))
        await writer.drain()

    async with platform(refuse, buffer=4096) as url:
        answer = await sent(url, LARGE)
    assert judged(answer) == NOT_SENT


async def test_503_in_the_middle_of_the_body_has_sent_nothing() -> None:
    answered = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(200_000)
        writer.write(reply(503, b"busy", "connection: close", "retry-after: 7"))
        await writer.drain()
        answered.set()

    async with platform(refuse, buffer=4096) as url:
        answer = await sent(url, LARGE)
    assert answered.is_set()
    assert judged(answer) == NOT_SENT


async def test_503_to_a_body_that_was_taken_is_uncertain() -> None:
    seen = Seen()
    async with platform(answering(seen, reply(503, b"busy", "retry-after: 7"))) as url:
        answer = await sent(url, LARGE)
    assert judged(answer) == UNCERTAIN
    assert (answer.http_status, answer.retry_after) == (503, 7.0)
    assert seen.bodies == [LARGE.body]


async def test_a_code_decides_even_under_503() -> None:
    body = b'{"response":{"code":"7006","description":"Internal error occurred"}}'
    async with platform(answering(Seen(), reply(503, body))) as url:
        assert judged(await sent(url, SMALL)) == (Outcome.LATER, Trouble.FAULT)


async def test_a_server_that_stops_reading_has_been_sent_nothing() -> None:
    async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await held.wait()

    held = asyncio.Event()
    async with platform(hold, buffer=4096) as url:
        answer = await sent(url, LARGE, timeout=0.3)
        held.set()
    assert judged(answer) == NOT_SENT


async def test_a_reset_before_the_body_was_taken_has_sent_nothing() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.transport.abort()

    async with platform(reset, buffer=4096) as url:
        assert judged(await sent(url, LARGE)) == NOT_SENT


async def test_a_refused_connection_and_a_name_that_nobody_has_sent_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = await sent(f"http://127.0.0.1:{free.getsockname()[1]}", SMALL)
    assert judged(refused) == NOT_SENT
    assert refused.http_status is None
    assert judged(await sent("http://nobody.invalid", SMALL)) == NOT_SENT


def dripping(arrived: asyncio.Event, over: asyncio.Event) -> Handler:
    """Answers with a byte now and then, until it is over: no time-out between bytes ends such a call."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():
            writer.write(b" ")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await over.wait()

    return drip


async def test_waiting_for_a_free_connection_in_vain_has_sent_nothing() -> None:
    arrived, over = asyncio.Event(), asyncio.Event()
    async with platform(dripping(arrived, over)) as url, PlatformClient(PATIENT, 1) as client:
        first = asyncio.create_task(client.send(url, KEY, Api.MESSAGING, SMALL))
        await arrived.wait()
        second = await client.send(url, KEY, Api.MESSAGING, SMALL)
        over.set()
        assert judged(second) == NOT_SENT
        assert judged(await first) == UNCERTAIN


# After it


async def test_a_server_that_never_answers_leaves_it_uncertain() -> None:
    async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(length_of(await read_head(reader)))
        await held.wait()

    held = asyncio.Event()
    async with platform(hold) as url:
        answer = await sent(url, SMALL, timeout=PATIENT)
        held.set()
    assert judged(answer) == UNCERTAIN
    assert answer.http_status is None


async def test_a_slow_drip_does_not_hold_a_call_for_ever() -> None:
    over = asyncio.Event()
    async with platform(dripping(asyncio.Event(), over)) as url, PlatformClient(PATIENT, 1, connect=1) as client:
        async with asyncio.timeout(20):
            answer = await client.send(url, KEY, Api.MESSAGING, SMALL)
        over.set()
    assert judged(answer) == UNCERTAIN
    assert "TimeoutError" in (answer.description or "")


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\n", reply(200, QUEUED)[:-5], reply(429, b"slow")[:-1]])
async def test_a_reset_in_mid_answer_leaves_it_uncertain(cut: bytes) -> None:
    async with platform(answering(Seen(), cut)) as url:
        assert judged(await sent(url, SMALL)) == UNCERTAIN


async def test_what_is_no_http_leaves_it_uncertain() -> None:
    async with platform(answering(Seen(), b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as url:
        assert judged(await sent(url, SMALL)) == UNCERTAIN


async def test_an_answer_without_an_end_is_read_to_its_limit() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(length_of(await read_head(reader)))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()

    async with platform(flood) as url:
        answer = await sent(url, SMALL)
    assert judged(answer) == UNCERTAIN
    assert LARGEST_ANSWER < len(answer.raw) < LARGEST_ANSWER + 2**20


# Nothing is done twice, and nothing is handed on


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 429, 500, 503])
async def test_nothing_is_retried_and_no_redirect_is_followed(status: int) -> None:
    seen = Seen()
    async with platform(answering(Seen(), reply(200, QUEUED))) as elsewhere:
        redirecting = reply(status, b"", f"location: {elsewhere}/x", "retry-after: 0")
        async with platform(answering(seen, redirecting)) as url:
            answer = await sent(url, SMALL)
    assert len(seen.bodies) == 1
    assert answer.outcome is not Outcome.ACCEPTED


async def test_a_cookie_of_one_tenant_s_call_is_not_shown_with_the_next() -> None:
    seen = Seen()
    cookie = reply(200, QUEUED, "set-cookie: session=of-a; Path=/")
    async with platform(answering(seen, cookie, keep=True)) as url, PlatformClient(5, 1) as client:
        for _ in range(2):
            await client.send(url, KEY, Api.MESSAGING, SMALL)
    assert len(seen.heads) == 2
    assert not [head for head in seen.heads if "cookie" in head.lower()]


async def test_no_error_names_the_address_or_the_credentials() -> None:
    for url in ("http://nobody.invalid/a-secret-path", "nonsense://a-secret-path", "http://[a-secret-path"):
        answer = await sent(url, SMALL)
        assert judged(answer) == NOT_SENT
        assert "secret" not in repr(answer)
        assert "the-service-key" not in repr(answer)
