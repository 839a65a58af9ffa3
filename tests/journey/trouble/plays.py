"""A play: messages are sent, receipts pour in, troubles befall one after the other, and then the books are closed."""

import random
from collections.abc import Sequence

from receiver.receipts import spool_folder
from tests.journey.trouble.books import Counts, close_books
from tests.journey.trouble.lives import Lives
from tests.journey.trouble.load import PAUSE_SECONDS, Load
from tests.journey.trouble.spools import bodies_in
from tests.journey.trouble.stage import Stage
from tests.journey.trouble.troubles import PATIENCE, Scene, Trouble
from tests.support import eventually


def play(stage: Stage, troubles: Sequence[Trouble], seed: int, pause: float = PAUSE_SECONDS) -> Counts:
    """Plays `troubles` with the receivers of the stage, which are started here; the counts, when all of it held.

    `pause` is how long each teller rests between two bodies, at most: in seconds.
    """
    for service in stage.services:
        service.start()
    stage.send()
    load = Load(Lives(seed, stage.issued), stage.notify_urls, seed, pause)
    with load.running():
        scene = Scene(stage, load, random.Random(seed))
        for trouble in troubles:
            trouble(scene)
    _revive_the_lonely(stage)
    drain(stage)
    counts = close_books(stage.database, load, {identity for identity, _ in stage.issued})
    for service in stage.living():
        service.terminate()
        assert service.ends[-1] == 0, service.log
    for service in stage.services:
        assert "Traceback" not in service.log, service.log
    return counts


def _revive_the_lonely(stage: Stage) -> None:
    """Whose spool nobody else can reach is started again: what is in there would stay for ever."""
    for service in stage.services:
        alone = [other for other in stage.living() if other.spool == service.spool] == []
        if alone:
            service.start()


def drain(stage: Stage) -> None:
    """Returns when no spool holds anything; waits as long as there is less and less. None is damaged."""
    for folder in {service.spool for service in stage.services if service.spool}:
        while left := bodies_in(folder):
            eventually(lambda folder=folder, left=left: bodies_in(folder) < left, PATIENCE, 0.05)  # type: ignore[misc]
        assert spool_folder.set_aside(folder) == []
