"""A client of the platform changes its base address and nothing else: answers and receipts stay the same bytes."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.journey.documented_client import DocumentedClient, documented_client
from tests.support import (
    PLATFORM_KEY,
    Database,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
)

MESSAGING, EVENTS = "/resources/v1/messaging", "/resources/v1/events/externalevent"
SMS = {"deliverychannel": "sms", "channels": {"sms": {"text": "Your parcel is on its way", "senderid": "PARCEL"}}}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (MESSAGING, SMS | {"destination": [{"msisdn": ["447700900001"]}]}),
    (
        MESSAGING,
        SMS
        | {
            "correlationid": "order-4711",
            "callbackData": "basket=9 \u00e9\u20ac",
            "destination": [{"msisdn": ["447700900002"]}, {"msisdn": ["447700900003"], "correlationid": 'own "id"'}],
        },
    ),
    (MESSAGING, SMS | {"callbackData": "twice", "destination": [{"msisdn": ["447700900005"]}]}),
    (
        MESSAGING,
        {
            "deliverychannel": "voice",
            "channels": {"voice": {"callflowid": "917", "cli": "448000000000"}},
            "correlationid": "call-1",
            "destination": [{"msisdn": ["447700900777"]}],
        },
    ),
    (EVENTS, {"events": [{"evtid": "1201", "correlationid": "evt-1", "parameters": {"param1": "value1"}}]}),
]
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")


def apart_from_ids_and_times(body: bytes) -> bytes:
    return TIME.sub(b"<time>", UUID.sub(b"<id>", body))


@contextlib.contextmanager
def sandbox(folder: Path, transids: str) -> Iterator[str]:
    """An honest simulated platform of its own, in a process; its address."""
    port = free_port()
    options = [f"--port={port}", f"--key={PLATFORM_KEY}", "--speed=0", "--seed=4", f"--transids={transids}"]
    with (folder / f"sandbox-{port}.log").open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "sandbox", *options], env=environment_of(), stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _serves(url))
        yield url
    finally:
        process.terminate()
        process.wait(25)


def _serves(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/sandbox/ledger", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def pending(platform: str) -> int:
    ledger = httpx2.get(f"{platform}/sandbox/ledger", trust_env=False).json()
    return int(ledger["receipts"]["pending"])


def converse(client: DocumentedClient) -> None:
    for path, body in REQUESTS:
        client.send(path, body)


@pytest.mark.parametrize("transids", ["request", "value", "suffixed"])
def test_answers_and_receipts_are_those_of_the_platform_itself(
    database: Database, tmp_path: Path, transids: str
) -> None:
    with sandbox(tmp_path, transids) as platform, documented_client(platform, PLATFORM_KEY) as direct:
        converse(direct)
        eventually(lambda: pending(platform) == 0, 20)
        told_directly = list(direct.receipts)

    with (
        sandbox(tmp_path, transids) as platform,
        receiver_process(database, tmp_path, platform_url=platform, RECEIVER_FORWARD_ALLOW="127.0.0.1") as receiver,
        documented_client(receiver.url, PLATFORM_KEY) as through_us,
    ):
        converse(through_us)
        eventually(lambda: pending(platform) == 0, 20)
        distinct = {apart_from_ids_and_times(body) for body in told_directly}
        eventually(lambda: {apart_from_ids_and_times(body) for body in through_us.receipts} >= distinct, 20)

    assert [(status, apart_from_ids_and_times(body)) for status, body in through_us.answers] == [
        (status, apart_from_ids_and_times(body)) for status, body in direct.answers
    ]
    assert {apart_from_ids_and_times(body) for body in through_us.receipts} == distinct
    assert len(distinct) > len(REQUESTS)


def test_each_receipt_bears_the_transid_of_its_answer_and_the_clients_own_ids(
    database: Database, tmp_path: Path
) -> None:
    with (
        sandbox(tmp_path, "request") as platform,
        receiver_process(database, tmp_path, platform_url=platform, RECEIVER_FORWARD_ALLOW="127.0.0.1") as receiver,
        documented_client(receiver.url, PLATFORM_KEY) as client,
    ):
        status, answer = client.send(MESSAGING, REQUESTS[0][1] | {"correlationid": "mine", "callbackData": "my data"})
        assert status == 200
        (item,) = json.loads(answer)["response"]
        assert item["code"] == "1001"
        told = eventually(lambda: len(client.receipts) == 2 and client.receipts)
        for body in told:
            notification = json.loads(body)["deliveryInfoNotification"]
            assert notification["transid"] == item["transid"]
            assert (notification["correlationid"], notification["callbackData"]) == ("mine", "my data")
        answered = httpx2.get(
            f"{receiver.url}{MESSAGING}/status/{item['transid']}", headers={"key": PLATFORM_KEY}, trust_env=False
        )
        (entry,) = answered.json()
        assert (entry["transactionid"], entry["to"], entry["status"]) == (item["transid"], "447700900001", "delivered")


def test_what_the_platform_would_refuse_is_refused_in_its_envelope_under_200(
    database: Database, tmp_path: Path
) -> None:
    with (
        sandbox(tmp_path, "request") as platform,
        receiver_process(database, tmp_path, platform_url=platform) as receiver,
    ):
        url = receiver.url + MESSAGING
        body = json.dumps(REQUESTS[0][1])

        def code(content: str, **headers: str) -> str:
            answer = httpx2.post(url, content=content, headers=headers, trust_env=False)
            assert answer.status_code == 200
            return str(answer.json()["response"]["code"])

        assert code(body) == "7002"
        assert code(body, key="wrong") == "7001"
        assert code(body, authorization="Bearer wrong") == "7001"
        assert code("{", key=PLATFORM_KEY) == "7000"
        assert code("{}", key=PLATFORM_KEY) == "7003"
        assert code(json.dumps(SMS | {"destination": [{"phone": ["1"]}]}), key=PLATFORM_KEY) == "7004"
        many = [{"msisdn": [str(447700900000 + n)]} for n in range(1_001)]
        assert code(json.dumps(SMS | {"destination": many}), key=PLATFORM_KEY) == "7009"
        assert database.value("select count(*) from message") == 0
