"""The page /docs: all of the contract, nothing of the internet."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2
import pytest

from receiver import reading_page
from receiver.app import OPERATIONS
from receiver.contract import contract_of
from tests.support import Receiver, cloned, receiver_process

ADDRESSES = {"href", "src", "action", "data", "poster", "srcset", "formaction", "background"}


class Page(HTMLParser):
    """The anchors of a page, what it refers to, and what its tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.refers += [value or "" for name, value in attrs if name in ADDRESSES]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]


DOCUMENT = contract_of(OPERATIONS)
TEXT = reading_page.page(DOCUMENT)
PAGE = Page(TEXT)


@pytest.fixture(scope="module")
def answer(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Response]:
    folder = tmp_path_factory.mktemp("page")
    with cloned(postgres, template, "page") as database, receiver_process(database, folder) as receiver:
        yield _got(receiver)


def _got(receiver: Receiver) -> httpx2.Response:
    with receiver.client() as anyone:
        return anyone.get("/docs")


def test_it_is_served_to_anybody_and_the_browser_may_do_nothing_else_with_it(answer: httpx2.Response) -> None:
    assert (answer.status_code, answer.text) == (200, TEXT)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/]+='", policy["style-src"])
    assert re.fullmatch(r"'sha256-[\w+/]+='", policy["script-src"])
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_it_asks_nothing_of_anybody() -> None:
    assert {address for address in PAGE.refers if not address.startswith("#")} == {"openapi.json"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", reading_page.STYLE + reading_page.SCRIPT)
    assert not PAGE.handlers  # the policy would forbid them
    assert PAGE.tags.count("script") == PAGE.tags.count("style") == 1


def test_every_anchor_is_there_once_and_every_link_leads_to_one() -> None:
    assert len(PAGE.ids) == len(set(PAGE.ids))
    assert {address[1:] for address in PAGE.refers if address.startswith("#")} <= set(PAGE.ids)


def test_every_operation_schema_and_code_stands_in_it() -> None:
    assert {operation.name for operation in OPERATIONS} <= set(PAGE.ids)
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(PAGE.ids)
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            assert f"<code>{parameter.name}</code>" in TEXT


def test_what_a_description_says_is_text_and_never_markup() -> None:
    evil = {**DOCUMENT, "info": {**DOCUMENT["info"], "description": '<script>x</script> `<img src="//x">` **<b>**'}}
    page = Page(reading_page.page(evil))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags


def test_a_reader_without_a_mouse_finds_his_way() -> None:
    assert {"header", "nav", "main"} <= set(PAGE.tags)
    assert PAGE.tags.count("h1") == 1
    assert 'lang="en"' in TEXT
    assert '<label for="search">' in TEXT
    assert TEXT.index('class="skip"') < TEXT.index("<header>")
