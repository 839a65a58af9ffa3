"""Notices on their way: signed, through trouble of the other side, and as docs/notices.md shows them."""

import hmac
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.failure_settings import FailureNotices
from receiver.forwarding.notice import Digest, Failure, Text
from tests.forwarding.clients import Answer, ClientServer, answering, client_server, counted, delivered, running, until
from tests.forwarding.noticing import SECRET, Clock, Stage, all_of, failed, noticed, observed_name, stage
from tests.support import Database

PAGE = (Path(__file__).parents[2] / "docs" / "notices.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def client() -> Iterator[ClientServer]:
    with client_server() as server:
        yield server


def test_a_failure_is_posted_once_and_signed(database: Database, client: ClientServer) -> None:
    async def work(scene: Stage) -> None:
        noticer, taken, forwarded = await scene.begun(), noticed("taken"), counted("taken")
        messages = [await scene.fail() for _ in range(5)]
        async with running(scene.forwarder()):
            await all_of(noticer)
            await scene.empty()
            await scene.tell(failed(messages[0]))
            await all_of(noticer)
            await scene.empty()
        assert {json.loads(told.raw)["id"] for told in client.told} == {str(message) for message in messages}
        assert len(client.told) == 5
        for told in client.told:
            proof = hmac.new(SECRET.encode(), told.raw, "sha256").hexdigest()
            assert told.headers["x-hub-signature"] == f"sha256={proof}"
            assert (told.path, told.headers["content-type"]) == ("/failures?key=1", "application/json")
        assert (noticed("taken"), counted("taken")) == (taken + 5, forwarded)

    stage(database, work, FailureNotices(f"{client.url}/failures?key=1", secret=SECRET))


def test_without_a_secret_nothing_is_signed(database: Database, client: ClientServer) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        await scene.fail()
        await all_of(noticer)
        async with running(scene.forwarder()):
            await scene.empty()
        assert "x-hub-signature" not in client.told[0].headers

    stage(database, work, FailureNotices(client.url))


@pytest.mark.parametrize(
    ("answer", "result", "leaves"),
    [
        (answering(204), "taken", True),
        (answering(404), "given_up", False),
        (answering(429), "retried", False),
        (answering(500), "retried", False),
        (answering(302, location="http://127.0.0.1:1/"), "given_up", False),
        (lambda: None, "retried", False),
    ],
    ids=["204", "404", "429", "500", "302", "timeout"],
)
def test_what_an_answer_means_for_a_notice(
    database: Database, client: ClientServer, answer: Callable[[], Answer], result: str, leaves: bool
) -> None:
    client.answers["/"] = answer

    async def work(scene: Stage) -> None:
        noticer, before = await scene.begun(), noticed(result)
        await scene.fail()
        await all_of(noticer)
        async with running(scene.forwarder(seconds=0.5)):
            await until_true(lambda: noticed(result) == before + 1)
        rows = await scene.rows()
        assert [row["is_dead"] for row in rows] == ([] if leaves else [result == "given_up"])

    stage(database, work, FailureNotices(f"{client.url}/"))


def test_a_notice_waits_until_the_other_side_is_up_again(database: Database, client: ClientServer) -> None:
    client.answers["/"] = answering(503)

    async def work(scene: Stage) -> None:
        clock = Clock()
        noticer, retried = await scene.begun(clock=clock), noticed("retried")
        await scene.fail()
        await all_of(noticer)
        async with running(scene.forwarder(clock=clock)):
            await until_true(lambda: noticed("retried") > retried)
            del client.answers["/"]
            clock.move(61)
            await scene.empty()
        first, second = client.bodies
        assert first == second

    stage(database, work, FailureNotices(f"{client.url}/"))


def test_nothing_goes_to_an_address_that_is_not_public(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer, refused = await scene.begun(), noticed("refused")
        await scene.fail()
        await all_of(noticer)
        async with running(scene.forwarder()):
            await until_true(lambda: noticed("refused") == refused + 1)
        (row,) = await scene.rows()
        assert (row["is_dead"], row["last_error"]) == (True, "its host leads to an address that is not public")

    stage(database, work, FailureNotices("https://10.0.0.1/failures"))


def test_neither_address_nor_secret_nor_recipient_is_logged(
    database: Database, client: ClientServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "receiver")
    client.answers["/a-secret-path"] = answering(410)
    told = FailureNotices(f"{client.url}/a-secret-path", secret=SECRET)

    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        await scene.fail()
        await all_of(noticer)
        forwarder = scene.forwarder()
        async with running(forwarder):
            await until_true(lambda: client.told)
        await forwarder.tidy()

    stage(database, work, told)
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "failure_notices_given_up" in logged
    assert "forwards_given_up" not in logged
    for word in ("a-secret-path", SECRET, "447700900001"):
        assert word not in logged + repr(told)


def test_a_text_for_many_names_no_recipient_and_calls_nobody(database: Database, client: ClientServer) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        for code in ("<!channel>", "447700900001", "7207 & more"):
            await scene.fail(code=code)
        await scene.tell(failed(observed_name(), number="447700900002"))
        await all_of(noticer)
        texts = [notice["text"] for notice in await scene.notices()]
        assert len(texts) == 4
        for text in texts:
            assert "447700900" not in text
            assert "<" not in text
            assert "order-1" not in text
            assert "theirs-" not in text

    stage(database, work, FailureNotices(client.url, "slack", also=frozenset(["observed"])))


def settled(value: Any) -> Any:
    """A notice without what differs each time."""
    text = json.dumps(value)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r'"[0-9a-f]{32}"', '"NOTICE"', text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z| UTC)", "AT", text)
    return json.loads(text)


@pytest.mark.parametrize("number", range(4), ids=["failure", "digest", "failure-text", "digest-text"])
def test_the_documents_show_what_is_posted(database: Database, number: int) -> None:
    kinds = [("json", 0), ("json", 60), ("slack", 0), ("slack", 60)]
    form, seconds = kinds[number]

    async def work(scene: Stage) -> None:
        clock = Clock()
        noticer = await scene.begun(clock=clock)
        failing = 1 if seconds == 0 else 3
        for n in range(failing):
            message, _ = await scene.issue(None, correlationid="order-4711", callback_data=None)
            await scene.connection.execute("update message set batch_id = id where id = $1", message)
            await scene.connection.execute("update message_state set country = 'GB' where id = $1", message)
            await scene.tell(submitted(str(message)))
            code, status = ("7207", "Undelivered") if n < 2 else ("7101", "Failed")
            await scene.tell(failed(message, code, status, transid=f"t-{message}"))
        await all_of(noticer)
        clock.move(seconds)
        await all_of(noticer)
        (notice,) = await scene.notices()
        assert settled(notice) == settled(EXAMPLES[number])

    def submitted(identity: str) -> bytes:
        return delivered(f"t-{identity}", identity, status="Submitted")

    stage(database, work, FailureNotices("https://hooks.example/failures", form, seconds))


@pytest.mark.parametrize("shape", [Failure, Digest], ids=lambda shape: shape.__name__)
def test_every_field_of_a_notice_is_explained(shape: type[msgspec.Struct]) -> None:
    explained = set(re.findall(r"^\| `([^|]*)` \|", PAGE, re.MULTILINE))
    fields = {name for row in explained for name in re.findall(r"[A-Za-z_]+", row)}
    assert set(shape.__struct_fields__) <= fields


def test_the_documents_have_an_example_of_each_shape() -> None:
    for example, shape in zip(EXAMPLES, (Failure, Digest, Text, Text), strict=True):
        assert set(example) == set(shape.__struct_fields__)
        msgspec.convert(example, shape)


async def until_true(holds: Callable[[], Any]) -> None:
    """Waits until `holds` is true."""

    async def held() -> bool:
        return bool(holds())

    await until(held)
