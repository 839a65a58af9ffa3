"""What an address leads to is checked in the moment of connecting, and the connection goes to what was checked."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from receiver.forwarding.network import NotReached, Refused, Teller, resolve
from receiver.targets import NOTHING, Allowed, parse_allowed
from tests.forwarding.clients import ClientServer, Scene, client_server, counted, play, running, until
from tests.support import Database

CLIENT = "https://client.example/receipts?a-secret"


@pytest.fixture
def client() -> Iterator[ClientServer]:
    with client_server() as server:
        yield server


class Names:
    """A DNS that answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, int]]()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def with_teller(names: Names, work: Callable[[Teller], Awaitable[None]], seconds: float = 5.0) -> None:
    async def wrapped() -> None:
        teller = Teller(4, names, seconds)
        try:
            await work(teller)
        finally:
            await teller.aclose()

    asyncio.run(wrapped())


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1%lo"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
    ],
)
def test_a_name_that_leads_to_a_private_address_is_refused(addresses: list[str]) -> None:
    async def work(teller: Teller) -> None:
        with pytest.raises(Refused, match="not public") as error:
            await teller.tell(CLIENT, b"{}", NOTHING)
        assert "secret" not in str(error.value)

    with_teller(names := Names(addresses), work)
    assert names.asked == [("client.example", 443)]


def test_one_private_address_among_public_ones_is_enough() -> None:
    async def work(teller: Teller) -> None:
        with pytest.raises(Refused, match="not public"):
            await teller.tell(CLIENT, b"{}", NOTHING)

    with_teller(Names(["93.184.216.34", "10.0.0.1"]), work)


def test_a_name_that_changes_its_mind_leads_nowhere_else(client: ClientServer) -> None:
    """The DNS says first what is allowed and then what is not: what was checked is connected to, and each anew."""
    port = client.url.rpartition(":")[2]
    url = f"http://hooks.test:{port}/x"

    async def work(teller: Teller) -> None:
        allowed = Allowed(frozenset({"hooks.test"}))
        assert await teller.tell(url, b"{}", allowed) == 200
        assert await teller.tell(url, b"{}", allowed) == 200  # over the connection that is there

    with_teller(names := Names(["127.0.0.1"], ["203.0.113.1"]), work)
    assert names.asked == [("hooks.test", int(port))]
    assert [telling.headers["host"] for telling in client.told] == [f"hooks.test:{port}"] * 2


def test_what_one_tenant_may_reach_another_may_not_by_the_connection_that_is_kept(client: ClientServer) -> None:
    url = client.url

    async def work(teller: Teller) -> None:
        assert await teller.tell(url, b"{}", parse_allowed("127.0.0.1")) == 200
        with pytest.raises(Refused):
            await teller.tell(url, b"{}", parse_allowed("10.0.0.0/8"))

    with_teller(Names(["127.0.0.1"]), work)


def test_the_second_address_is_tried_when_the_first_does_not_answer(client: ClientServer) -> None:
    port = client.url.rpartition(":")[2]

    async def work(teller: Teller) -> None:
        allowed = parse_allowed("hooks.test")
        assert await teller.tell(f"http://hooks.test:{port}/x", b"{}", allowed) == 200

    with_teller(Names(["127.0.0.9", "127.0.0.1"]), work)


def test_a_name_that_nobody_knows_is_not_reached() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    async def work() -> None:
        for resolver, says in ((unknown, "not known"), (Names([]), "no address")):
            teller = Teller(4, resolver)
            with pytest.raises(NotReached, match=says):
                await teller.tell(CLIENT, b"{}", NOTHING)
            await teller.aclose()

    asyncio.run(work())


@pytest.mark.parametrize("host", ["a..b.example", f"{'a' * 64}.example"])
def test_a_name_that_can_not_be_asked_for_is_not_reached(host: str) -> None:
    async def work() -> None:
        teller = Teller(4, resolve)
        with pytest.raises(NotReached, match="not known"):
            await teller.tell(f"https://{host}/receipts?a-secret", b"{}", NOTHING)
        await teller.aclose()

    asyncio.run(work())


def test_names_of_clients_that_hang_keep_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, ask = threading.Event(), socket.getaddrinfo

    def asked(host: str, *more: Any, **named: Any) -> Any:
        if host == "slow.example":
            let_go.wait(20)
            raise OSError("no such host")
        return ask(host, *more, **named)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        slow = [asyncio.create_task(resolve("slow.example", 443)) for _ in range(40)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                assert await loop.getaddrinfo("localhost", 80)
        finally:
            let_go.set()
            await asyncio.gather(*slow, return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    asyncio.run(work())


def test_the_system_s_own_names_are_asked() -> None:
    assert "127.0.0.1" in asyncio.run(resolve("localhost", 80))


def test_a_server_that_does_not_speak_tls_hears_no_request() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        teller = Teller(4, Names(["127.0.0.1"]), 5.0)
        with pytest.raises(NotReached, match="no connection"):
            await teller.tell(f"https://hooks.test:{port}/", b"{}", parse_allowed("127.0.0.1"))
        await teller.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(work())
    assert heard[0].startswith(b"\x16\x03")  # the greeting of TLS, and no request
    assert b"hooks.test" in heard[0]  # it asks for the certificate of the name, not of the address


def test_a_refused_address_is_given_up_and_says_why(database: Database) -> None:
    async def work(scene: Scene) -> None:
        before = counted("refused")
        await scene.queue(CLIENT, 1)
        await scene.queue("http://client.example/", 1)
        teller = Teller(4, Names(["10.0.0.1"]))
        async with running(scene.forwarder(teller=teller)):
            await until(lambda: over(scene))
        errors = [row["last_error"] for row in await scene.rows()]
        assert "not public" in errors[0]
        assert "plain http" in errors[1]
        assert counted("refused") == before + 2

    async def over(scene: Scene) -> bool:
        return all(row["is_dead"] for row in await scene.rows())

    play(database, work)
