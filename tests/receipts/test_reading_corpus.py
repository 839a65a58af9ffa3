"""Bodies as operators and hubs have told them since 2015, in `corpus/read.json`, and what each must be read as."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from receiver.ids import destination_digest
from receiver.messages.told import Told
from receiver.platform.codes import Class
from receiver.receipts.receipt import read
from tests.receipts.reading import source, told
from tests.receipts.soundness import assert_steady, assert_storable

CORPUS = Path(__file__).parent / "corpus"
FOUND = sorted((CORPUS / "found").iterdir())  # what once broke the reader
CASES: list[dict[str, Any]] = json.loads((CORPUS / "read.json").read_text("utf-8"))
IDS = ["transid", "correlationid", "callback_data", "subtid", "device"]
SILENT: dict[str, object] = dict.fromkeys([*IDS, "code", "destination", "told_at", "count", "carrier", "failure"])


def shown(receipt: Told) -> dict[str, object]:
    """A receipt in the words of the corpus."""
    assert receipt.fact.name is not None
    return {
        "channel": receipt.channel.word,
        "fact": receipt.fact.name.lower(),
        "code": receipt.code,
        "destination": receipt.destination,
        "transid": receipt.transid,
        "correlationid": receipt.correlationid,
        "callback_data": receipt.callback_data,
        "told_at": receipt.told_at.isoformat() if receipt.told_at else None,
        "subtid": receipt.subtid,
        "device": receipt.device,
        "count": receipt.message_count,
        "carrier": receipt.carrier,
        "failure": Class(receipt.reason_class).word if receipt.reason_class else None,
    }


def test_the_corpus_is_large_and_names_each_case_once() -> None:
    assert len(CASES) >= 60
    assert len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_body_of_the_corpus_is_read_as_it_says(case: dict[str, Any]) -> None:
    zone = ZoneInfo(case["zone"]) if "zone" in case else UTC
    receipts = told(json.dumps(case["body"], ensure_ascii=False).encode(), zone)
    expected = [{**SILENT, **receipt} for receipt in case["receipts"]]
    for wanted in expected:
        wanted.pop("description", None)
    assert [shown(receipt) for receipt in receipts] == expected
    for receipt, wanted in zip(receipts, case["receipts"], strict=True):
        assert receipt.destination_key == destination_digest(wanted.get("destination", ""))
        if "description" in wanted:
            assert receipt.description == wanted["description"]
        if "keeps" in case:
            assert case["keeps"].encode() in receipt.raw


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_body_of_the_corpus_is_the_same_however_it_is_spelt(case: dict[str, Any]) -> None:
    """Key order, key case, blanks, escapes, a byte-order mark and a wrapper change neither receipt nor fingerprint."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.swapcase(): turned(v) for key, v in reversed(value.items())}
        return [turned(item) for item in value] if isinstance(value, list) else value

    plain = told(json.dumps(case["body"]).encode())
    spelt = [
        json.dumps(turned(case["body"]), indent=2).encode(),
        b"\xef\xbb\xbf\r\n" + json.dumps(case["body"], ensure_ascii=False).encode() + b"\n\0",
        json.dumps(case["body"]).encode("utf-16"),
        json.dumps({"requestData": case["body"]}).encode(),
        json.dumps([{"df_payload": json.dumps(case["body"])}]).encode(),
    ]
    for body in spelt:
        again = told(body)
        assert [r.fingerprint for r in again] == [r.fingerprint for r in plain]
        assert [shown(r) for r in again] == [shown(r) for r in plain]


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_once_broke_the_reader_does_so_no_more(path: Path) -> None:
    raw = path.read_bytes()
    assert_storable(raw, read(raw, source()))
    assert_steady(raw)
