"""The draw among fates and paces: one seed, one sequence."""

import random
from itertools import pairwise

import pytest

from receiver.sandbox import magic, script
from tests.sandbox import Stage, play


def sequence(seed: int) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}

    async def scene(on: Stage) -> None:
        await on.send(*(f"4477009001{place:02}" for place in range(40)))
        await on.quiet()
        found.update(on.recorder.by_destination)

    play(scene, seed=seed, undelivered=0.3, failed=0.2, silent=0.1)
    return found


def test_one_seed_gives_one_sequence_and_another_seed_another() -> None:
    assert sequence(7) == sequence(7)
    assert sequence(7) != sequence(8)


def test_the_same_dice_give_the_same_pace_and_no_step_overtakes_another() -> None:
    for row in magic.TABLE:
        rolls = [random.Random(seed) for seed in range(50)]
        for roll in rolls:
            dice = [roll.random() for _ in range(script.DICE)]
            offsets = script.pace(row.script, dice, 1.0)
            assert offsets == script.pace(row.script, dice, 1.0)
            assert len(offsets) == len(row.script.steps)
            assert all(before <= after for before, after in pairwise(offsets))
            halved = script.pace(row.script, dice, 0.5)
            assert halved == pytest.approx([offset / 2 for offset in offsets])


def test_the_natural_delays_are_about_one_three_and_four_seconds() -> None:
    middle = [0.5] * script.DICE
    assert script.pace(script.DELIVERED_SCRIPT, middle, 1.0) == (1.0, 4.0)
    assert script.pace(script.failed(script.INVALID_SENDER), middle, 1.0) == (3.0,)
    assert script.pace(script.undelivered(script.OUT_OF_COVERAGE), middle, 1.0) == (1.0, 3.0)


def test_the_drawn_shares_are_those_of_the_settings() -> None:
    roll = random.Random(1)
    shares = script.Shares(undelivered=0.03, failed=0.02, silent=0.1)
    names = [script.draw(shares, [roll.random() for _ in range(script.DICE)]).name for _ in range(20_000)]
    # A binomial's standard deviation at 20,000 is at most 0.0025 for these shares: four of them.
    assert names.count("undelivered") / 20_000 == pytest.approx(0.03, abs=0.01)
    assert names.count("failed") / 20_000 == pytest.approx(0.02, abs=0.01)
    assert names.count("silent") / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_magic_number_leaves_the_fates_of_later_messages_as_they_were() -> None:
    fates = []

    async def scene(on: Stage) -> None:
        for first in (magic.TWICE, magic.SILENT):
            await on.send(first)
        await on.send(*(f"4477009001{place:02}" for place in range(20)), notifyurl=None)
        fates.append(dict(on.sandbox.ledger.messages))

    async def ordinary(on: Stage) -> None:
        await on.send("447700900201", "447700900202", notifyurl=None)
        on.sandbox.ledger.messages.clear()
        await on.send(*(f"4477009001{place:02}" for place in range(20)), notifyurl=None)
        fates.append(dict(on.sandbox.ledger.messages))

    play(scene, seed=3, undelivered=0.4, failed=0.4)
    play(ordinary, seed=3, undelivered=0.4, failed=0.4)
    assert fates[0] == fates[1] | {"twice": 1, "silent": 1}
