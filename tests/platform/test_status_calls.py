"""Asking for a status over real sockets: nothing that the network does raises, and nothing is read without end."""

import asyncio

import pytest

from receiver.platform.client import LARGEST_STATUS, PlatformClient
from receiver.platform.credentials import Key
from receiver.platform.status import Result
from receiver.sandbox.server import build
from receiver.sandbox.settings import SandboxSettings
from tests.platform.test_client import Handler, Seen, platform, read_head, reply
from tests.sandbox import serving

pytestmark = pytest.mark.anyio
KEY = Key("the-service-key-of-the-shop")
ONE = b'[{"transactionid":"t-1","channel":"SMS","to":"447700900001","status":"delivered"}]'


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def answering(seen: Seen, *replies: bytes) -> Handler:
    """Answers each call with the next of the replies, on one connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        while True:
            seen.heads.append(await read_head(reader))
            writer.write(replies[min(len(seen.heads), len(replies)) - 1])
            await writer.drain()

    return handle


async def test_a_status_is_asked_for_with_the_credentials_under_a_quoted_transid_on_one_connection() -> None:
    seen = Seen()
    async with platform(answering(seen, reply(200, ONE))) as url, PlatformClient(5, 1) as client:
        for transid in ("a/b c?d_0", "t-1"):
            answer = await client.status(url + "/base", KEY, transid)
            assert (answer.result, answer.entries[0].status) == (Result.ANSWERED, "delivered")
    first = seen.heads[0]
    assert first.startswith("GET /base/resources/v1/messaging/status/a%2Fb%20c%3Fd_0 HTTP/1.1\r\n")
    assert "key: the-service-key-of-the-shop\r\n" in first.lower()
    assert seen.connections == 1


async def test_a_retry_after_is_handed_on() -> None:
    async with platform(answering(Seen(), reply(429, b"", "retry-after: 12"))) as url, PlatformClient(5, 1) as client:
        answer = await client.status(url, KEY, "t-1")
    assert (answer.result, answer.retry_after) == (Result.THROTTLED, 12.0)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n[", b"hello\r\n\r\n"],
                         ids=["hangs up", "half an answer", "no HTTP"])  # fmt: skip
async def test_a_broken_answer_is_a_fault(said: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(said)

    async with platform(handle) as url, PlatformClient(5, 1) as client:
        assert (await client.status(url, KEY, "t-1")).result is Result.FAULT


async def test_a_platform_that_hangs_or_is_not_there_is_a_fault() -> None:
    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until we hang up

    async with platform(handle) as url, PlatformClient(0.2, 1) as client:
        assert (await client.status(url, KEY, "t-1")).result is Result.FAULT
    async with PlatformClient(1, 1) as client:
        assert (await client.status("http://127.0.0.1:9", KEY, "t-1")).result is Result.FAULT


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 x\r\n\r\n[")
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()

    async with platform(handle) as url, PlatformClient(20, 1) as client:
        assert (await client.status(url, KEY, "t-1")).result is Result.FAULT


async def test_the_answer_for_a_thousand_messages_is_read() -> None:
    entry = ONE[1:-1].replace(b"}", b',"body":"' + b"x" * 4_096 + b'"}')
    said = b"[" + b",".join([entry] * 1_000) + b"]"
    assert len(said) < LARGEST_STATUS
    async with platform(answering(Seen(), reply(200, said))) as url, PlatformClient(20, 1) as client:
        answer = await client.status(url, KEY, "t-1")
    assert len(answer.entries) == 1_000
    assert sum(len(entry.raw) for entry in answer.entries) < 200_000


async def test_the_sandbox_is_understood() -> None:
    async with serving(build(SandboxSettings(keys=(KEY.secret,)))) as url, PlatformClient(5, 1) as client:
        assert (await client.status(url, KEY, "never-seen")).result is Result.UNKNOWN
        assert (await client.status(url, Key("another-key-of-nobody"), "never-seen")).result is Result.REFUSED
