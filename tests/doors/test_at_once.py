"""Which receipts the door takes at once: the usual ones, through all that stands before it; and no others."""

import asyncio
from datetime import UTC

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.access.signatures import NO_PROTECTION
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import NotifyTokens
from receiver.at_once import Said, first_of
from receiver.frame import ByPort
from receiver.ids import TenantId
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Reading
from receiver.receipts.routes import READ_ASIDE, NotifyDoor
from receiver.receipts.waiting import Full, NotDurable, Waiter
from receiver.web import Ahead
from tests.doors.telling import delivered
from tests.support import SECRET

GOOD = delivered("at once")


class Keeping(Intake):
    """An intake that keeps who waits, or has no room."""

    is_spooling = is_full = False

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.has_room = True

    def put(self, arrival: Arrival, reading: Reading | None, waiter: Waiter, since: float | None = None) -> None:
        if not self.has_room:
            raise Full
        self.waiters.append(waiter)


async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError


def asked(intake: Intake, by_port: bool = False, body: bytes = GOOD, path: str = "", length: int = -1) -> list[bytes]:
    """Offers a request to what serves; the answers' first lines so far, or fails if it was not taken."""
    tokens = NotifyTokens(SECRET)
    door = NotifyDoor(tokens, lambda _: AtTheDoor(TenantId(1), UTC, NO_PROTECTION), intake, 1_000_000)
    app: ASGIApp = Ahead(elsewhere, "/notify/", "token", door)
    first = first_of(ByPort(8001, app, elsewhere) if by_port else app)
    assert first is not None
    headers = [(b"content-length", b"%d" % (len(body) if length < 0 else length))]
    path = path or f"/notify/{tokens.sign('default')}"
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "server": ("127.0.0.1", 8001)}
    heard: list[bytes] = []

    def hear(answer: Said) -> None:
        heard.append(answer.head.partition(b"\r\n")[0])

    async def offer() -> bool:
        return first.at_once(scope, body, hear)

    assert asyncio.run(offer()), "it was not taken"
    return heard


@pytest.mark.parametrize("by_port", [False, True], ids=["one port", "a port of its own"])
def test_a_usual_receipt_is_taken_and_answered_when_the_intake_says_so(by_port: bool) -> None:
    intake = Keeping()
    heard = asked(intake, by_port)
    assert heard == [], "not before it is durable"
    (waiter,) = intake.waiters
    assert not waiter.done()
    waiter.set_result(None)
    assert waiter.done()
    assert heard == [b"HTTP/1.1 200 OK"]


def test_one_that_could_not_be_made_durable_is_to_be_told_again() -> None:
    intake = Keeping()
    heard = asked(intake)
    intake.waiters[0].set_exception(NotDurable("no"))
    assert heard == [b"HTTP/1.1 503 Service Unavailable"]


@pytest.mark.parametrize("what", ["spooling", "full", "no room", "large", "cut off", "token", "elsewhere"])
def test_what_is_unusual_is_left_to_the_endpoint(what: str) -> None:
    intake = Keeping()
    intake.is_spooling, intake.is_full = what == "spooling", what == "full"
    intake.has_room = what != "no room"
    body = GOOD + b" " * READ_ASIDE if what == "large" else GOOD
    path = {"token": "/notify/x", "elsewhere": "/v1/messages"}.get(what, "")
    with pytest.raises(AssertionError, match="not taken"):
        asked(intake, body=body, path=path, length=len(GOOD) + 1 if what == "cut off" else -1)
    assert not intake.waiters, "and nothing was done with it"
