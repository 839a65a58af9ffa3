"""A receiver that serves drops an old week by itself, while it takes receipts, and forgets a person beside that."""

from pathlib import Path

from receiver.database.pool import Connection
from tests.database.past import LONG_AGO, add_week, sent, tell, telling, with_pool
from tests.receipts.tellings import NUMBER
from tests.support import Database, eventually, receiver_process
from tests.upkeep.people import body
from tests.upkeep.test_forgetting import forget


def test_a_receiver_drops_an_old_week_and_takes_receipts_of_it_meanwhile(database: Database, tmp_path: Path) -> None:
    tenant, key = database.tenant(), database.key()
    old: list[str] = []

    async def prepare(_: object, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        for n in range(20):
            message, _submission = await sent(connection, tenant, LONG_AGO)
            await tell(connection, telling(tenant, f"t-{n}", correlationid=str(message)))
            old.append(str(message))

    with_pool(database, prepare)
    with receiver_process(database, tmp_path, RECEIVER_RETENTION_DAYS="35") as receiver, receiver.client(key) as client:
        answered = 0
        for n in range(40):
            raw = body(NUMBER, f"late-{n}", f"Clicked {n}", old[n % 20])
            answered += client.post(receiver.notify_url(), content=raw).status_code == 200
        eventually(lambda: database.value("select count(*) from dropped_week where starts_on = $1", LONG_AGO))
        assert answered == 40
        assert client.get(f"/v1/messages/{old[0]}").status_code == 404
        assert client.get(f"/v1/messages/{old[0]}/explain").status_code == 404
        assert client.get("/v1/messages", params={"correlationid": "theirs"}).json()["messages"] == []
        told, kept = database.fetch("select receipts, (select count(*) from receipt) from dropped_week")[0]
        assert told + kept == 20 + 40
        assert "receiver_retention_weeks_dropped_total 1.0" in client.get("/metrics").text
        erased = forget(database, destination=NUMBER)
        assert erased["complete"] is True
        assert client.get("/v1/messages", params={"destination": NUMBER}).json()["messages"] == []
    assert receiver.process.returncode == 0
    assert "week_dropped" in receiver.log.read_text()
    assert NUMBER not in receiver.log.read_text()
