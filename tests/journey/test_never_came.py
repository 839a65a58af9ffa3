"""A receiver, and a message of which nothing more is told: the whole way, in a process of its own."""

from pathlib import Path

from tests.sending.platforms import receipt, tell
from tests.support import Database, eventually, receiver_process

NUMBER = "447700900123"


def test_a_message_that_stays_silent_is_overdue_then_given_up_and_a_late_receipt_corrects_it(
    database: Database, tmp_path: Path
) -> None:
    times = {"RECEIVER_USUAL_TIMES": "sms=5s", "RECEIVER_PATIENCES": "sms=12s"}
    with receiver_process(database, tmp_path, **times) as one, one.client(database.key()) as api:
        assert tell(one.notify_url(), receipt("Submitted", "7501", NUMBER, transid="T-1")) == 200

        def found(**filters: str) -> list[dict[str, object]]:
            messages: list[dict[str, object]] = api.get("/v1/messages", params=filters).json()["messages"]
            return messages

        (message,) = found(transid="T-1")
        assert (message["state"], message["overdue"]) == ("submitted", False)
        assert found(overdue="true") == []
        assert eventually(lambda: found(overdue="true"), 30)[0]["id"] == message["id"]
        eventually(lambda: found(state="no_receipt"), 30)
        assert found(overdue="true") == []
        told = api.get(f"/v1/messages/{message['id']}").json()["timeline"]
        assert [(entry["feed"], entry["state"]) for entry in told] == [("push", "submitted"), ("own", "no_receipt")]
        assert told[1]["description"] == "Nothing final was told within 12s of the send."
        counted = 'receiver_messages_total{channel="sms",feed="own",state="no_receipt",tenant="default"} 1.0'
        assert counted in api.get("/metrics").text
        assert tell(one.notify_url(), receipt("Delivered", "7500", NUMBER, transid="T-1")) == 200
        assert found(transid="T-1")[0]["state"] == "delivered"
