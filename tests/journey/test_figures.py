"""What the door of statistics says during a storm and after it, beside plain counts over the messages."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.messages.lattice import Channel
from receiver.platform.codes import Class
from tests.journey.storm import hostile_platform
from tests.receipts.tellings import body
from tests.support import Database, Receiver, eventually, receiver_process

PATH = "/v1/stats/delivery"
MADE_UP, CALLS, CLIENTS = 2_500, 60, 3
SENDERS = ("PARCEL", "SHOP", "447700900999")

# Each message and what it counts as, said again and apart from the service's own SQL.
MESSAGES = """
select m.id, m.origin, m.channel, coalesce(s.country, '') as country, s.conflict, s.carrier, m.sender, m.template,
       date_trunc('hour', born_at_v1(m.id), 'UTC') as hour, date_trunc('day', born_at_v1(m.id), 'UTC') as day,
       case when s.state between 40 and 46 or s.state = 65 then coalesce(s.reason_class, 0) end as code_class,
       s.state = 0 as queued, s.state in (40, 41) as not_sent, s.state = 5 as uncertain, s.state = 30 as no_receipt,
       s.state in (10, 20, 25, 30, 43, 44, 45, 46, 60, 65, 70) as accepted,
       s.state in (10, 20, 25) and not w.top as pending, s.state in (10, 20, 25) and w.top as at_ceiling,
       s.state in (60, 70) as delivered, s.state = 70 as read, s.state in (42, 43, 44, 45, 46, 65) as failed,
       s.state = 42 as refused, m.channel not in (11, 14, 15) as tells, m.channel in (3, 4, 5, 8, 9, 10) as tells_read,
       s.state >= 30 or s.state in (10, 20, 25) and w.top as settled,
       s.accepted_at, s.submitted_at, s.delivered_at, extract(epoch from born_at_v1(m.id)) as born
  from message m join message_state s on s.id = m.id
 cross join lateral (select m.channel = 11 and s.state >= 20 or m.channel in (14, 15)) w(top)
 where s.merged_into is null
"""
WANTED = f"""
select {{keys}}count(*) as messages, count(*) filter (where queued) as queued,
       count(*) filter (where not_sent) as not_sent, count(*) filter (where uncertain) as uncertain,
       count(*) filter (where accepted) as accepted, count(*) filter (where pending) as pending,
       count(*) filter (where at_ceiling) as at_ceiling, count(*) filter (where no_receipt) as no_receipt,
       count(*) filter (where delivered) as delivered, count(*) filter (where read) as read,
       count(*) filter (where failed) as failed, count(*) filter (where refused) as refused,
       count(*) filter (where conflict) as conflict, count(*) filter (where settled) as settled,
       count(*) filter (where delivered and tells) as confirmed,
       count(*) filter (where (delivered or failed) and tells) as confirmed_of,
       count(*) filter (where accepted and tells) as accepted_of,
       count(*) filter (where read and tells_read) as read_of,
       count(*) filter (where delivered and tells_read) as delivered_of,
       count(*) filter (where accepted and (delivered or failed or at_ceiling)) as covered,
       array(select count(*) filter (where c.failed and c.code_class = n)
               from unnest(array_agg(failed), array_agg(code_class)) c(failed, code_class), generate_series(0, 6) n
              group by n order by n) as by_class
  from ({MESSAGES}) c {{where}} group by {{groups}}
"""
LATENCY = f"""
select {{keys}}count(t.seconds) as messages,
       percentile_disc(array[0.5, 0.9, 0.95, 0.99]) within group (order by greatest(t.seconds, 0.001)) as p
  from (select c.*, extract(epoch from {{column}}) - born as seconds from ({MESSAGES}) c
         where c.origin <> 2 {{where}} and {{column}} is not null) t group by {{groups}}
"""
COUNTED = (
    "messages", "queued", "not_sent", "uncertain", "accepted", "pending", "at_ceiling", "no_receipt", "delivered",
    "read", "failed", "refused", "conflict",
)  # fmt: skip
RATES = {
    "confirmed_rate": ("confirmed", "confirmed_of"),
    "delivered_of_accepted": ("confirmed", "accepted_of"),
    "read_of_delivered": ("read_of", "delivered_of"),
    "coverage": ("covered", "accepted"),
}
GROUPINGS = (
    (), ("hour",), ("day", "channel"), ("channel",), ("country",), ("channel", "country"), ("hour", "country"),
    ("sender",), ("channel", "template"), ("carrier",), ("country", "carrier"),
    ("code_class",), ("channel", "code_class"),
)  # fmt: skip
ISSUED = f"""
select count(*) as messages, count(*) filter (where accepted) as accepted,
       count(*) filter (where delivered or failed) as final from ({MESSAGES}) c where origin = 1
"""


def send(receiver: Receiver, key: str, seed: int) -> None:
    """Calls of a client, of three senders."""
    dice = random.Random(seed)
    with receiver.client(key) as api:
        for _ in range(CALLS):
            numbers = [f"44770090{last}" for last in dice.sample(range(1_000, 9_999), dice.randint(1, 5))]
            asked = {
                "deliverychannel": "sms",
                "channels": {"sms": {"text": "Your parcel is on its way", "senderid": dice.choice(SENDERS)}},
                "destination": [{"msisdn": [number]} for number in numbers],
            }
            assert api.post("/v1/messages", json=asked).status_code == 202
            time.sleep(0.05)


def contradict(receiver: Receiver) -> None:
    """Messages that nobody sent here arrive and fail."""
    with receiver.client() as platform:
        for n in range(60):
            for status in ("Delivered", "Failed")[: 1 + n % 2]:
                info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": f"33612345{n:03d}"}
                assert platform.post(receiver.notify_url(), content=body(info, f"both-{n}")).status_code == 200


def ask(api: httpx2.Client, **query: str) -> dict[str, Any]:
    answer = api.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def issued(database: Database) -> tuple[int, ...]:
    return tuple(database.fetch(ISSUED)[0])


def issued_at_the_door(api: httpx2.Client) -> tuple[int, ...]:
    (group,) = ask(api, origin="issued", latency="false")["groups"] or [
        dict.fromkeys(("messages", "accepted", "delivered", "failed"), 0)
    ]
    return group["messages"], group["accepted"], group["delivered"] + group["failed"]


def test_every_figure_is_what_a_count_over_the_messages_says(database: Database, tmp_path: Path) -> None:
    """In the storm no figure is ahead of the messages, or behind what was folded; afterwards all agree."""
    key = database.key()
    with (
        hostile_platform(tmp_path, seed=5, speed=0.01) as platform,
        receiver_process(database, tmp_path, platform_url=platform.url) as receiver,
        receiver.client(key) as api,
        ThreadPoolExecutor(CLIENTS + 1) as threads,
    ):
        platform.tell([receiver.notify_url()], MADE_UP, 5)
        sending = [threads.submit(send, receiver, key, n) for n in range(CLIENTS)]
        sending.append(threads.submit(contradict, receiver))
        looks = 0
        while not all(one.done() for one in sending):
            looks += _during(database, api)
        for one in sending:
            one.result()
        eventually(lambda: not platform.ledger()["receipts"]["pending"] and _all_sent(database), 60, 0.2)
        assert looks >= 2
        last = database.value("select max(at) from change")
        eventually(lambda: _folded(database), 20, 0.1)
        assert ask(api)["as_of"] >= f"{last:%Y-%m-%dT%H:%M:%S}"
        assert database.value("select count(distinct origin) from message_state where merged_into is null") == 2
        assert database.value("select count(*) from message_state where conflict") > 0
        for by in GROUPINGS:
            _compare_counts(database, api, by)
        for by in ((), ("hour", "country"), ("channel",), ("sender",), ("carrier",)):
            _compare_latency(database, api, by)


def _during(database: Database, api: httpx2.Client) -> int:
    """What was committed before is in the figures once they say so, and what they say is there afterwards."""
    before, now = issued(database), database.value("select clock_timestamp()")
    eventually(lambda: ask(api, latency="false")["as_of"] > f"{now:%Y-%m-%dT%H:%M:%S.%f}", 20, 0.1)
    said, after = issued_at_the_door(api), issued(database)
    assert all(b <= s <= a for b, s, a in zip(before, said, after, strict=True)), (before, said, after)
    return before != after


def _all_sent(database: Database) -> bool:
    return bool(database.value("select count(*) from outbox") == 0)


def _folded(database: Database) -> bool:
    return bool(
        database.value(
            "select not exists (select from change c, folded f where not pg_visible_in_snapshot(c.xid, f.snapshot))"
        )
    )


def _keys(by: Sequence[str]) -> tuple[str, str, str]:
    """The columns of the groups, with the origin; where a further dimension is asked for, only who has one."""
    names = [*by, "origin"]
    sides = [name for name in by if name in ("sender", "template", "carrier")]
    ours = " and origin <> 2" if "sender" in by or "template" in by else ""
    where = " and ".join([f"nullif({name}, '') is not null" for name in sides] or ["true"]) + ours
    return "".join(f"{name}, " for name in names), where, ", ".join(names)


def _named(row: Any, by: Sequence[str]) -> tuple[Any, ...]:
    """The group of a row as the door spells it."""
    words: dict[str, Any] = {
        "channel": lambda n: Channel(n).word,
        "origin": lambda n: ("issued", "observed", "recorded")[n - 1],
        "country": lambda text: text or None,
        "code_class": lambda n: None if n is None else Class(n).word,
    }
    times = ("hour", "day")
    return tuple(
        row[name].strftime("%Y-%m-%dT%H:%M:%SZ") if name in times else words.get(name, str)(row[name])
        for name in [*by, "origin"]
    )


def _answered(group: dict[str, Any], by: Sequence[str]) -> tuple[Any, ...]:
    return tuple(group["at" if name in ("hour", "day") else name] for name in [*by, "origin"])


def _compare_counts(database: Database, api: httpx2.Client, by: Sequence[str]) -> None:
    keys, where, groups = _keys(by)
    rows = database.fetch(WANTED.format(keys=keys, where=f"where {where}", groups=groups))
    answer = ask(api, latency="false", **({"by": ",".join(by)} if by else {}))["groups"]
    found = {_answered(group, by): group for group in answer}
    assert set(found) == {_named(row, by) for row in rows}, by
    for row in rows:
        group = found[_named(row, by)]
        assert {name: group[name] for name in COUNTED} == {name: row[name] for name in COUNTED}, (by, _named(row, by))
        assert group["other"] == 0
        assert group["failed_by_class"] == {Class(n).word: count for n, count in enumerate(row["by_class"]) if count}
        assert group["maturity"]["settled"]["numerator"] == row["settled"]
        for rate, (part, whole) in RATES.items():
            assert (group[rate]["numerator"], group[rate]["denominator"]) == (row[part], row[whole]), (rate, by)


def _compare_latency(database: Database, api: httpx2.Client, by: Sequence[str]) -> None:
    keys, where, groups = _keys(by)
    found = {
        _answered(group, by): group["latency"] for group in ask(api, **({"by": ",".join(by)} if by else {}))["groups"]
    }
    for kind in ("accepted", "submitted", "delivered"):
        rows = database.fetch(LATENCY.format(keys=keys, where=f"and {where}", groups=groups, column=f"{kind}_at"))
        assert {_named(row, by) for row in rows} == {group for group, kinds in found.items() if kind in kinds}, by
        for row in rows:
            latency = found[_named(row, by)][kind]
            assert latency["messages"] == row["messages"], (by, kind)
            exact = [float(seconds) for seconds in row["p"]]
            assert [latency[f"p{p}"] for p in (50, 90, 95, 99)] == pytest.approx(exact, rel=0.0501, abs=0.0011)
