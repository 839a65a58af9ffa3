"""What a batch becomes when it is accepted, and what of it goes out: its submissions, their contents, the cancelled."""

from typing import Any

import msgspec
import pytest

from receiver.ids import MessageId
from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending import claims
from receiver.sending.cancel import cancel
from receiver.sending.events import check_events
from receiver.sending.request import Request, check
from tests.sending.platforms import Platform, queued, recording_platform, sms
from tests.sending.senders import LEASE, Sender, hand_in, sender, take_in, until, value
from tests.support import Database, run

NOWHERE = Platform(url="http://127.0.0.1:9")


def asked(body: dict[str, Any]) -> Request:
    request = check_events(body) if "events" in body else check(body)
    assert isinstance(request, Request)
    return request


def events(*names: str) -> dict[str, Any]:
    return {"events": [{"evtid": name, "parameters": {"n": name, "big": 10**20}} for name in names]}


async def loads(one: Sender, submissions: list[Any]) -> list[claims.Load]:
    async with one.pool.acquire() as connection:
        return await claims.load(connection, submissions)


def test_a_call_holds_as_many_entries_as_the_setting_allows(database: Database) -> None:
    async def main() -> None:
        async with sender(database, NOWHERE) as one:
            numbers = [str(447700900000 + n) for n in range(7)]
            accepted = await take_in(one, asked(sms(*numbers)), entries=3)
            found = await loads(one, accepted.submissions)
        assert [[r.value for r in load.recipients] for load in found] == [numbers[:3], numbers[3:6], numbers[6:]]
        assert [identity for identity, _ in accepted.messages] == [
            r.message_id for load in found for r in load.recipients
        ]
        assert len({load.content for load in found}) == 1

    run(main())


def test_each_submission_of_events_carries_its_own_as_they_were_written(database: Database) -> None:
    async def main() -> None:
        async with sender(database, NOWHERE) as one:
            body = events("a", "b", "c") | {"expiry": "2099-01-01T00:00:00"}
            accepted = await take_in(one, asked(body), entries=2)
            found = await loads(one, accepted.submissions)
            assert await value(one, "select array_agg(distinct api) from submission") == [Api.EVENTS]
        assert [load.channel for load in found] == [Channel.EVENT, Channel.EVENT]
        contents = [msgspec.json.decode(load.content or b"") for load in found]
        assert contents == [body | {"events": part} for part in (body["events"][:2], body["events"][2:])]
        assert all(b"100000000000000000000" in (load.content or b"") for load in found), "numbers keep their digits"

    run(main())


def test_what_was_cancelled_does_not_go_out_with_the_others(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda call: queued(*(f"t-{n}" for n in call.numbers))
        platform.replies["a"] = lambda call: (
            200,
            msgspec.json.encode({"response": [{"code": "1002", "transid": f"e-{n}"} for n in call.numbers]}),
        )
        async with sender(database, platform) as one:
            messages = await take_in(one, asked(sms("447700900001", "447700900002", "447700900003")))
            happenings = await take_in(one, asked(events("a", "b", "c")))
            both = [MessageId(accepted.messages[1][0]) for accepted in (messages, happenings)]
            for identity in both:
                await cancel(one.pool, one.tenants.id_of("default"), identity, one.at, keep_content=False)
            one.start()
            await until(one, "select count(*) from outbox", 0)
            await one.stop()
            states = await value(one, "select array_agg(state order by id)::text from message_state")
            assert states == "{10,40,10,10,40,10}"
        calls = {"events" if "events" in call.body else "messages": call for call in platform.calls}
        assert calls["messages"].numbers == ["447700900001", "447700900003"]
        assert calls["messages"].ids == [str(messages.messages[n][0]) for n in (0, 2)]
        assert [(e["evtid"], e["parameters"]["n"], e["correlationid"]) for e in calls["events"].body["events"]] == [
            ("a", "a", str(happenings.messages[0][0])),
            ("c", "c", str(happenings.messages[2][0])),
        ]

    with recording_platform() as platform:
        run(main(platform))


def test_what_was_cancelled_as_a_whole_is_not_claimed(database: Database) -> None:
    async def main() -> None:
        async with sender(database, NOWHERE) as one:
            accepted = await take_in(one, asked(sms("447700900001")))
            tenant = one.tenants.id_of("default")
            await cancel(one.pool, tenant, accepted.messages[0][0], one.at, keep_content=False)
            assert await one.dispatcher._claim() == 0

    run(main())


def test_the_clients_notifyurl_and_the_digests_of_its_key_are_kept(database: Database) -> None:
    async def main() -> None:
        async with sender(database, NOWHERE) as one:
            forwards = "select forwards from tenant where name = 'default'"
            await hand_in(one, "447700900001")
            assert await value(one, forwards) is False
            assert await value(one, "select notifyurl from submission") is None
            request = asked(sms("447700900002", notifyurl="https://client.example/told"))
            await take_in(one, request, idempotency=(b"k" * 16, b"b" * 16))
            assert await value(one, forwards) is True
            assert await value(one, "select max(notifyurl) from submission") == "https://client.example/told"
            query = "select request_digest from batch where idempotency_key = $1"
            assert await value(one, query, b"k" * 16) == b"b" * 16

    run(main())


@pytest.mark.parametrize("in_line", [True, False])
def test_in_line_is_born_claimed(database: Database, in_line: bool) -> None:
    async def main() -> None:
        async with sender(database, NOWHERE) as one:
            choices: dict[str, Any] = {"in_line_lease": LEASE} if in_line else {}
            await take_in(one, asked(sms("447700900001")), **choices)
            assert await value(one, "select in_line from outbox") is in_line
            assert await value(one, "select attempts from outbox") == int(in_line)
            assert await value(one, "select lease_until from outbox") == (one.at + LEASE if in_line else None)
            assert await one.dispatcher._claim() == int(not in_line)

    run(main())
