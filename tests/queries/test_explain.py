"""The explanation of a message, as a support agent reads it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.access.tokens import NotifyTokens
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed
from receiver.queries import explain_words as words
from receiver.queries.explain_expected import Expected
from tests.queries.one import World, world
from tests.sending.platforms import receipt, tell
from tests.support import SECRET, eventually


@pytest.fixture(scope="module")
def here(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres, template, tmp_path_factory.mktemp("explain"), "explain") as made:
        yield made


def steps_of(explanation: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (step["feed"], step["said"]["status"], step["before"], step["after"], step["why"])
        for step in explanation["steps"]
    ]


def test_each_receipt_says_what_it_changed_or_why_not(here: World) -> None:
    identity = here.send()[1][0]
    told = [
        ("Submitted", "7501"),
        ("Undelivered", ""),
        ("Failed", "7101"),
        ("Undelivered", "7207"),
        ("Delivered", "7500"),
        ("Submitted", "7501"),
        ("Teleported", "1"),
        ("Clicked", ""),
    ]
    for n, (status, code) in enumerate(told):
        here.told(identity, status, code, stamp=f"2026-01-01T10:{n:02}:00Z")
    found = here.explain(identity)
    assert steps_of(found) == [
        ("answer", "queued", "queued", "accepted", "raised"),
        ("push", "Submitted", "accepted", "submitted", "raised"),
        ("push", "Undelivered", "submitted", "undelivered", "raised"),
        ("push", "Failed", "undelivered", "failed", "raised"),
        ("push", "Undelivered", "failed", "failed", "repeated"),
        ("push", "Delivered", "failed", "delivered", "raised"),
        ("push", "Submitted", "delivered", "delivered", "repeated"),
        ("push", "Teleported", "delivered", "delivered", "unknown_status"),
        ("push", "Clicked", "delivered", "delivered", "no_rank"),
    ]
    rules = [step["rule"] for step in found["steps"]]
    assert [rule["fact"] for rule in rules[1:4]] == ["submitted", "undelivered", "failed"]
    assert (rules[5]["word"], rules[5]["state"], rules[5]["rank"]) == ("delivered", "delivered", 60)
    assert "On sms delivered proves delivered, the state delivered (60)." in rules[5]["text"]
    assert "in no table" in rules[7]["text"]
    assert [step["reason"] for step in found["steps"]] == [None, None, "won", "won", "lost", None, None, None, None]
    assert "by the rank of its state" in found["steps"][4]["reason_text"]
    assert {step["joined"]["how"] for step in found["steps"][1:]} == {"our_id"}
    assert found["steps"][0]["joined"]["how"] == "answer"
    assert found["steps"][1]["told_late_seconds"] > 0
    assert found["state"] == here.get(identity)["state"] == "delivered"
    assert found["text"].startswith("It is delivered by step 6 of 9")
    assert found["expected"]["nothing"]
    assert "delivered is the best that sms tells" in found["expected"]["text"]


def test_a_lower_fact_says_by_how_much(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Delivered")
    here.told(identity, "Submitted")
    step = here.explain(identity)["steps"][-1]
    assert (step["why"], step["changed"]) == ("lower", False)
    assert "submitted (20) is lower than delivered (60)" in step["text"]


def test_a_conflict_names_the_leg_and_its_facts(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Delivered", number="447700800001")
    here.told(identity, "Undelivered", "7207", number="447700800001", stamp="2026-01-01T11:00:00Z")
    assert not here.explain(identity)["conflict"], "on sms an undelivered that came back is normal"
    here.told(identity, "Failed", "7101", number="447700800001")
    found = here.explain(identity)
    assert found["conflict"]
    assert [step["conflict"] for step in found["steps"]] == [False, False, False, True]
    (one,) = found["contradictions"]
    assert (one["destination"], one["positive"], one["negative"]) == ("447700800001", "delivered", "failed")
    assert "sms does not list as normal (it lists delivered with undelivered)" in one["text"]
    assert [step["elsewhere"] for step in found["steps"]] == [False, True, True, True]
    assert "another destination" in found["steps"][1]["text"]


def test_it_says_how_each_receipt_was_joined(here: World) -> None:
    transid = "T-observed-explained"
    bare = here.receiver.notify_url()
    for status in ("Submitted", "Delivered"):
        assert tell(bare, receipt(status, "", "447700855555", transid=transid)) == 200
    observed = here.api.get("/v1/messages", params={"transid": transid}).json()["messages"][0]["id"]
    found = here.explain(observed)
    assert [step["joined"]["how"] for step in found["steps"]] == ["first", "key"]
    assert steps_of(found)[0][2] is None, "before its first word it was not"
    identity = here.send()[1][0]
    submission = here.receiver.database.value("select submission_id from message where id = $1", identity)
    url = f"{here.receiver.url}/notify/{NotifyTokens(SECRET).sign('default', submission)}"
    assert tell(url, receipt("Delivered", "", here.get(identity)["destination"])) == 200
    assert here.explain(identity)["steps"][-1]["joined"]["how"] == "notifyurl"


def test_what_is_expected_follows_the_patience_of_the_channel(here: World) -> None:
    identity = here.send()[1][0]
    found = here.explain(identity)
    expected = found["expected"]
    accepted = datetime.fromisoformat(here.get(identity)["accepted_at"])
    assert not expected["nothing"]
    assert datetime.fromisoformat(expected["given_up_at"]) == accepted + timedelta(hours=72)
    assert datetime.fromisoformat(expected["usually_by"]) == accepted + timedelta(minutes=15)
    assert "becomes no_receipt after 3d" in expected["text"]
    asked = datetime.now(UTC) + timedelta(hours=5)
    here.receiver.database.fetch(
        "insert into awaited (message_id, tenant, channel, look_at, poll_at, polls, overdue_at)"
        " select id, tenant, channel, now() + interval '9 days', $2, 3, $2 from message_state where id = $1",
        identity,
        asked,
    )
    expected = here.explain(identity)["expected"]
    assert datetime.fromisoformat(expected["overdue_at"]) == datetime.fromisoformat(expected["asked_next_at"]) == asked
    assert expected["asked"] == 3


def test_a_message_that_waits_to_be_sent_says_why(here: World) -> None:
    here.platform.replies["447700888888"] = lambda _call: (401, b"")
    answer = here.api.post(
        "/v1/messages",
        json={
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "x"}},
            "destination": [{"msisdn": ["447700888888"]}],
        },
    )
    identity = answer.json()["messages"][0]["id"]
    found = eventually(lambda: (e := here.explain(identity))["expected"]["text"].startswith("It waits") and e)
    assert found["state"] == "queued"
    assert found["text"] == "It is queued: nothing has been told of it yet."
    assert eventually(lambda: "credentials" in here.explain(identity)["expected"]["text"])
    assert found["expected"]["sent_next_at"]
    here.receiver.database.fetch("delete from lane")


def test_a_thousand_receipts_are_explained_and_it_says_that_there_are_more(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Submitted")
    here.receiver.database.fetch(
        "insert into receipt (message_id, fingerprint, feed, channel, fact, rank, clash, received_at, told_at, status,"
        " destination, destination_key, raw)"
        " select message_id, decode(md5(n::text), 'hex'), 1, 1, 4, 20, 0, now() + n * interval '1 s', now(), status,"
        " destination, destination_key, '' from receipt, generate_series(1, 1200) n"
        " where message_id = $1 and status = 'Submitted' and feed = 1",
        identity,
    )
    found, message = here.explain(identity), here.get(identity)
    assert (len(found["steps"]), found["steps_cut"]) == (1000, True)
    assert (len(message["timeline"]), message["timeline_cut"]) == (1000, True)
    assert found["state"] == "submitted"
    assert "first 1000 receipts" in found["text"]


def test_a_word_that_is_read_otherwise_today_says_so() -> None:
    word, table, text = words.rule(Channel.SMS, Feed.PUSH, "Failed", None, Fact.UNDELIVERED)
    assert (word, table) == ("failed", "all")
    assert "today it would prove failed" in text
    assert words.rule(Channel.VOICE, Feed.PUSH, "REJECTED", None, Fact.UNDELIVERED)[1] == "voice"
    assert words.rule(Channel.SMS, Feed.PUSH, "erased", None, Fact.FAILED)[1] == "erased"


@pytest.mark.parametrize("mine", range(4), ids=("rank", "code", "class", "fingerprint"))
def test_a_reason_wins_by_the_first_thing_that_differs(mine: int) -> None:
    lower, higher = bytearray([44, 0, 0, *bytes(16)]), bytearray([44, 0, 0, *bytes(16)])
    higher[mine] += 1
    said = ("rank", "having a code", "known class", "fingerprint")[mine]
    won, lost = words.reason_outcome(bytes(lower), bytes(higher)), words.reason_outcome(bytes(higher), bytes(lower))
    assert won is not None
    assert lost is not None
    assert (won[0], lost[0]) == ("won", "lost")
    assert said in won[1]
    assert said in lost[1]


def test_the_words_cover_every_feed() -> None:
    assert set(words.FEEDS) == set(Feed)
    assert Expected(nothing=True, text=State.READ.word).asked == 0
