"""A fault in counting costs a figure, and never a receipt or its answer."""

import asyncio
import logging
from collections.abc import Iterator, Mapping

import pytest

from receiver import metrics
from receiver.database.pool import open_pool
from receiver.ids import TenantId
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Source, read
from tests.receipts.tellings import RECEIVED, body
from tests.support import Database


class NoNames(Mapping[TenantId, str]):
    """Tenants of whom nobody can say the name."""

    def __getitem__(self, tenant: TenantId) -> str:
        raise RuntimeError("447700900001")

    def __iter__(self) -> Iterator[TenantId]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


def test_a_receipt_is_durable_and_answered_though_it_can_not_be_counted(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = database.tenant()

    async def work() -> None:
        pool = await open_pool(database.dsn, "tests", 1, writer=True)
        intake = Intake(pool, NoNames())
        running = asyncio.create_task(intake.run())
        for number in range(3):
            raw = body({"deliveryStatus": "Delivered", "destination": "447700900001"}, f"uncounted-{number}")
            reading = read(raw, Source(tenant, None, RECEIVED))
            await asyncio.wait_for(intake.take(Arrival("default", None, RECEIVED, raw), reading), 10)
        await intake.close()
        await running
        await pool.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(work())
    assert database.value("select count(*) from receipt") == 3
    told = [vars(one) for one in caplog.records if one.getMessage() == "not_counted"]
    assert [(one["what"], one["reason"]) for one in told] == [("count_group", "RuntimeError")]


def test_what_can_be_counted_is() -> None:
    counted = list[int]()

    @metrics.harmless
    def count(number: int) -> None:
        counted.append(1 // number)

    for number in (1, 0, 1):
        count(number)
    assert counted == [1, 1]
