"""Feeds the reader of receipts with what coverage-guided mutation finds: `make fuzz`.

The seeds are the samples and the corpus of the tests. A body that breaks a promise is written to `.fuzz/`; mend the
reader, and keep the body in `tests/receipts/corpus/found/`, where `make test` reads it for ever.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["receiver.receipts", "receiver.platform", "receiver.ids"]):
    from receiver.receipts.receipt import read
    from tests.receipts.reading import source
    from tests.receipts.soundness import assert_steady, assert_storable

LONGEST = 64 * 1024
SECONDS_A_BODY = 0.5  # 50 ms, ten times over: watched code is slow
CORPUS = ROOT / "tests" / "receipts" / "corpus"
WORK = ROOT / ".fuzz"
KEYS = [
    *("deliveryInfoNotification", "deliveryInfo", "df_payload", "requestData", "deliveryInfoList", "link", "href"),
    *("deliveryStatus", "status", "transid", "correlationid", "callbackData", "destination", "address", "timeStamp"),
    *("TRANSID", "code", "errorCode", "messageCount", "subtid", "deliveryChannel", "Description", "additionalInfo"),
    *("clientCorrelator", "RequestId", "messageId", "resourceURL", "deviceid", "pushId", "deliveryDate"),
]
VALUES: list[Any] = [
    *("Delivered", "Bounce", "ANSWERED", "DeliveryImpossible", "whatsapp", "email", "SMS", "voice", "(#131049) | x"),
    *(
        "Transient_General",
        "smtp; 550",
        "$(callbackData)",
        "tel: +447700900001",
        "sip:a@b",
        "_1_1",
        "urn:uuid:",
        "<x/>",
    ),
    *("2015-04-12T18:30:19.456+5:30", "20240514101430", "Tue, 14 May 2024 10:14:30 GMT", "1e400", "\0", "\ud800", "İ"),
    *(None, True, 0, -0.0, 1.5, 10**30, 1e300, float("nan"), [], {}, [[]], "", " ", "{", "[1]", '{"deliveryInfo":1}'),
]


def check(raw: bytes) -> None:
    """Raises where a reading of `raw` breaks a promise."""
    raw = bytes(raw)
    least = SECONDS_A_BODY
    for _ in range(3):
        begun = time.thread_time()
        reading = read(raw, source())
        least = min(least, time.thread_time() - begun)
        if least < SECONDS_A_BODY:
            break
    assert least < SECONDS_A_BODY * max(1, len(raw) / LONGEST), f"slow: {least * 1000:.0f} ms for {len(raw)} bytes"
    assert_storable(raw, reading)
    assert_steady(raw)


def mutate(raw: bytes, most: int, seed: int) -> bytes:
    """Half the time another value or key somewhere in the JSON, else libFuzzer's own change of bytes."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        try:
            changed = json.dumps(_changed(json.loads(raw), chance)).encode()
        except (ValueError, RecursionError):
            pass
        else:
            if len(changed) <= most:
                return changed
    return bytes(atheris.Mutate(raw, most))


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {
                    chance.choice([*KEYS, key.upper(), key.swapcase()]) if k == key else k: v for k, v in value.items()
                }
            case 1:
                return {k: v for k, v in value.items() if k != key}
            case 2:
                return {**value, chance.choice(KEYS): chance.choice(VALUES)}
            case _:
                return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value + value[place : place + 1] * chance.choice([1, 2, 200])
        return [*value[:place], _changed(value[place], chance), *value[place + 1 :]]
    match chance.randrange(4):
        case 0:
            return [value] * chance.choice([1, 2, 30])
        case 1:
            return {chance.choice(KEYS): value}
        case 2:
            return json.dumps(value)
        case _:
            return chance.choice(VALUES)


def seeds() -> Path:
    """A folder with the samples and the corpus, a file each."""
    folder = WORK / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    bodies = [json.dumps(case["body"]).encode() for case in json.loads((CORPUS / "read.json").read_text("utf-8"))]
    bodies += [path.read_bytes() for path in (ROOT / "tests" / "samples" / "receipts").glob("*.json")]
    bodies += [path.read_bytes() for path in (CORPUS / "found").iterdir()]
    for number, raw in enumerate(bodies):
        (folder / f"{number:03}").write_bytes(raw)
    return folder


def main(seconds: str) -> None:
    """Runs for so many seconds; ends with an exit code other than 0 at the first broken promise."""
    grown = WORK / "grown"
    grown.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={int(seconds)}", f"-max_len={LONGEST}", f"-artifact_prefix={WORK}/", "-timeout=25"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=1", str(grown), str(seeds())], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
