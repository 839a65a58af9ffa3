"""The receipts door before the database was opened: whose token it is may be unknown, and that is no fault of ours."""

from pathlib import Path

import httpx2

from receiver.access.tokens import NotifyTokens
from receiver.ids import SubmissionId, new_id
from tests.receipts.tellings import body
from tests.support import SECRET, Database, receiver_process

NOWHERE = Database("postgresql://receiver@127.0.0.1:9/receiver", "receiver")


def test_a_token_that_only_the_database_may_know_is_answered_503_without_an_error_in_the_log(tmp_path: Path) -> None:
    receipt = body({"deliveryStatus": "Delivered"}, "early")
    with receiver_process(NOWHERE, tmp_path, up="/livez") as receiver:
        for token in (
            NotifyTokens(SECRET).sign("elsewhere"),
            NotifyTokens(SECRET).sign("gone", SubmissionId(new_id())),
        ):
            url = f"{receiver.url}/notify/{token}"
            for method, content in (("POST", receipt), ("HEAD", None)):
                answer = httpx2.request(method, url, content=content, trust_env=False, timeout=20)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        known = httpx2.post(receiver.notify_url(), content=receipt, trust_env=False, timeout=20)
        assert known.status_code == 200, "a tenant of the settings: its receipts go to the spool"
        scraped = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
    assert 'receiver_notify_responses_total{code="503",retried="yes"} 4.0' in scraped
    log = receiver.log.read_text()
    assert "database_not_open" in log
    assert '"level": "error"' not in log
