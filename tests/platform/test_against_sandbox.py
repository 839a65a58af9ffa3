"""Our client and the simulated platform, each written from the documents: they understand one another at every door."""

import base64
import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from receiver.platform.apis import Api
from receiver.platform.calls import call_of, is_queued
from receiver.platform.client import PlatformClient
from receiver.platform.credentials import base_url_of, credentials_of
from receiver.platform.wire import Answer, Outcome, Recipient, Trouble
from receiver.sandbox.server import build
from receiver.sandbox.settings import SandboxSettings
from receiver.tenant_settings import Tenant
from tests.sandbox import serving
from tests.support import run

KEY, TOKEN = "the-service-key", "the-campaign-token"
SECRET = base64.b64encode(b"the secret of the service").decode()
RECIPIENTS = [Recipient(UUID(int=n), "msisdn", f"44770090010{n}") for n in (1, 2)]
CONTENTS = {
    Api.MESSAGING: b'{"deliverychannel":"sms","channels":{"sms":{"text":"x"}}}',
    Api.MESSAGING_V2: b'{"deliverychannel":"sms","channels":{"sms":{"text":"x"}}}',
    Api.EVENTS: b'{"events":[{"evtid":"1201","parameters":{}},{"evtid":"1202","parameters":{}}]}',
    Api.CAMPAIGN: b'{"event-id":"evt_1","event-key":"447700900101","event-params":{"a":"b"}}',
}


def answer_at(api: Api, shown: dict[str, Any], content: bytes | None = None) -> Answer:
    """What the sandbox answers to a tenant with these credentials."""

    async def main() -> Answer:
        settings = SandboxSettings(keys=(KEY,), services={"svc-1": SECRET}, campaign_tokens=(TOKEN,))
        async with serving(build(settings)) as url, PlatformClient(5, 1) as client:
            one = replace(Tenant("a", platform_url=url, campaign_url=url), **shown)
            credentials, base_url = credentials_of(one, api), base_url_of(one, api)
            assert credentials is not None
            assert base_url is not None
            call = call_of(api, content or CONTENTS[api], RECIPIENTS, "http://127.0.0.1:9/notify/t")
            return await client.send(base_url, credentials, api, call)

    return run(main())


GOOD = {
    "key": {"platform_key": KEY, "campaign_token": TOKEN},
    "token": {"service_id": "svc-1", "service_secret": SECRET, "campaign_token": TOKEN},
}
WRONG = {
    "key": {"platform_key": "another-key", "campaign_token": "another-token"},
    "service": {"service_id": "svc-2", "service_secret": SECRET, "campaign_token": "another-token"},
    "secret": {"service_id": "svc-1", "service_secret": base64.b64encode(b"x").decode(), "campaign_token": "y"},
}


@pytest.mark.parametrize("credentials", GOOD)
@pytest.mark.parametrize("api", Api)
def test_every_door_takes_what_we_send(api: Api, credentials: str) -> None:
    answer = answer_at(api, GOOD[credentials])
    assert answer.outcome is Outcome.ACCEPTED, answer
    assert all(is_queued(api, item) and item.transid for item in answer.items)


@pytest.mark.parametrize("credentials", WRONG)
@pytest.mark.parametrize("api", Api)
def test_wrong_credentials_are_the_trouble_of_the_lane_at_every_door(api: Api, credentials: str) -> None:
    answer = answer_at(api, WRONG[credentials])
    assert (answer.outcome, answer.trouble) == (Outcome.LATER, Trouble.CREDENTIALS), answer


@pytest.mark.parametrize("api", Api)
def test_a_faulty_request_is_refused_at_every_door_with_a_code_that_we_know(api: Api) -> None:
    faulty = json.loads(CONTENTS[api])
    for mandatory in ("channels", "event-id"):
        faulty.pop(mandatory, None)
    for event in faulty.get("events", []):
        del event["evtid"]
    answer = answer_at(api, GOOD["key"], json.dumps(faulty).encode())
    assert (answer.outcome, answer.trouble) == (Outcome.REFUSED, None), answer
    assert (answer.code or "").isdigit()
