"""From what the sandbox tells, by a capture, to a play of it: the message comes to the same end."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

import httpx2

from receiver.capture.capturing import capture_of
from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.messages.lattice import Fold, fold
from receiver.messages.told import Told
from receiver.receipts.receipt import Source, read
from receiver.sandbox import channels, crowd, hostile, script
from receiver.sandbox.capture import play
from receiver.sandbox.crowd import Wanted
from tests.capture.playing import beliefs, captured, come_in, played, rows_of
from tests.support import Database, now, run

MANY, STORED = 350, 28  # messages, over all channels in turn; those that go through the database
WANTED = Wanted((httpx2.URL("http://127.0.0.1/"),), MANY, 11, tuple(channels.FAMILIES), "hostile")


def told_of(number: int, at: datetime) -> tuple[str, list[tuple[datetime, bytes]]]:
    """The transid of a hostile message, and its bodies in order of arrival."""
    roll = random.Random(f"11/{number}")
    to = crowd.person(WANTED, number, roll)
    dice = [roll.random() for _ in range(script.DICE)]
    fate = channels.draw(to.channel, hostile.FATES, dice)
    steps = list(zip(script.pace(fate, dice, 1.0), fate.steps, strict=True))
    parcels = hostile.plan(to, steps, at, roll).parcels
    return to.transid, [(at + timedelta(seconds=one.offset), one.body()) for one in parcels]


def test_what_is_captured_and_played_comes_to_the_same_end(
    database: Database, fresh_database: Callable[[], Database]
) -> None:
    other = fresh_database()
    tenant, elsewhere = database.tenant(), other.tenant()
    began = now() - timedelta(hours=1)

    async def work() -> None:
        here, there = await connect(database.dsn, "tests"), await connect(other.dsn, "tests")
        try:
            seen = 0
            for number in range(STORED):
                transid, bodies = told_of(number, began)
                await come_in(here, tenant, bodies)
                ended = await beliefs(here, tenant, transid)
                if not ended:
                    continue  # nothing was told
                capture = await captured(here, tenant, transid)
                assert not [step for step in capture.steps if step.rebuilt or step.differs], transid
                text = json.dumps([step.body for step in capture.steps])
                assert transid not in text.lower()
                one = await played(there, elsewhere, capture, now() - timedelta(minutes=9), seed=number)
                again = await beliefs(there, elsewhere, one.name("transid", capture))
                assert again == ended, (number, bodies, one.told)
                seen += 1
            assert seen > 0.9 * STORED
        finally:
            await here.close()
            await there.close()

    run(work())


def test_every_hostile_sequence_folds_alike_when_it_is_played() -> None:
    began = now()
    for number in range(MANY):
        transid, bodies = told_of(number, began)
        if folds(bodies):
            capture = capture_of(*rows_of(bodies))
            assert not [step for step in capture.steps if step.rebuilt or step.differs], transid
            one = play(capture, random.Random(number), speed=0.5, now=began)
            again = [(began + timedelta(seconds=offset), body.encode()) for offset, _, body in one.told]
            assert folds(again) == folds(bodies), (number, bodies, again)
            assert not {told.fingerprint for told in read_all(bodies)} & {told.fingerprint for told in read_all(again)}


def read_all(bodies: list[tuple[datetime, bytes]]) -> list[Told]:
    """Every receipt in these bodies."""
    return [told for at, body in bodies for told in read(body, Source(TenantId(1), None, at)).receipts]


def folds(bodies: list[tuple[datetime, bytes]]) -> Counter[tuple[object, ...]]:
    """What is believed of each message that these bodies speak of."""
    found = defaultdict(list)
    for told in read_all(bodies):
        found[told.transid_key, told.leg_key].append(told)
    beliefs = [(fold(told), told) for told in found.values()]
    return Counter(
        (belief.state, belief.facts, belief.conflict, belief.clicks, belief.complaints, *_reason(belief, told))
        for belief, told in beliefs
    )


def _reason(belief: Fold, receipts: list[Told]) -> tuple[object, ...]:
    return next(((one.code, one.reason_class) for one in receipts if one.reason_key == belief.reason_key), ())
