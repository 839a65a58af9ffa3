"""The troubles. Each befalls a stage under load, at moments and in ways left to chance, and is over at its end."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.journey.trouble.load import Load
from tests.journey.trouble.proxy import Cut
from tests.journey.trouble.spools import bodies_held
from tests.journey.trouble.stage import Service, Stage
from tests.support import eventually

FLOWING = 60  # bodies that are answered 200 before anything befalls, and again before it is over
SPOOLED = 60  # bodies that are answered 200 while Postgres is away
REFUSED = 20  # bodies that are answered 503 while a disk is full
PATIENCE = 60.0  # seconds for anything to come to pass: nothing takes so long, unless the machine is very busy


@dataclass(frozen=True)
class Scene:
    """Where and when a trouble befalls."""

    stage: Stage
    load: Load
    roll: random.Random

    @property
    def has_spool(self) -> bool:
        return all(service.spool for service in self.stage.services)

    def flowing(self, enough: int = FLOWING) -> None:
        """Returns when so many bodies more have been answered 200."""
        before = len(self.load.acknowledged)
        eventually(lambda: self._still(before + enough), PATIENCE, 0.005)

    def spooling(self) -> None:
        """As `flowing`, where receipts can be stored without Postgres; else lets some be refused.

        What came before may have filled a small disk, and its spool drains only when Postgres is back.
        """
        if not self.has_spool:
            self.refused(1)
            return
        before, refused = len(self.load.acknowledged), self.load.answers["503"]

        def enough() -> bool:
            is_full = self.stage.spool_disk is not None and self.load.answers["503"] >= refused + SPOOLED
            return self._still(before + SPOOLED) or is_full

        eventually(enough, PATIENCE, 0.005)

    def refused(self, enough: int = REFUSED) -> None:
        """Returns when so many bodies more have been answered 503."""
        before = self.load.answers["503"]
        eventually(lambda: self.load.answers["503"] >= before + enough, PATIENCE, 0.005)

    def until_it_spools(self, service: Service) -> None:
        """Returns when this receiver has something in its spool."""
        assert service.spool is not None
        spool, pid = service.spool, service.process.pid
        eventually(lambda: bodies_held(spool, pid) > 0, PATIENCE, 0.005)

    def moment(self, longest: float = 0.4) -> None:
        """Some time goes by, in the midst of the load."""
        time.sleep(self.roll.uniform(0, longest))

    def somebody(self) -> Service:
        return self.roll.choice(self.stage.living())

    def _still(self, enough: int) -> bool:
        assert self.load.failure is None, self.load.failure
        return len(self.load.acknowledged) >= enough


def kill_a_receiver(scene: Scene) -> None:
    """kill -9 of a receiver; it is started again."""
    scene.flowing()
    scene.moment()
    service = scene.somebody()
    service.kill()
    scene.moment()
    service.start()
    scene.flowing()


def kill_a_receiver_that_spools(scene: Scene) -> None:
    """kill -9 of a receiver while Postgres can't be reached; it is started again, and Postgres comes back later."""
    scene.flowing()
    scene.stage.proxy.refuse()
    service = scene.somebody()
    scene.spooling()
    scene.until_it_spools(service)
    service.kill()
    service.start()
    scene.spooling()
    scene.moment()
    scene.stage.proxy.admit()
    scene.flowing()


def kill_postgres(scene: Scene) -> None:
    """kill -9 of all of Postgres's processes; it is started again, and writers come back by themselves."""
    scene.flowing()
    scene.moment()
    scene.stage.postgres.kill()
    scene.spooling()
    scene.moment()
    scene.stage.postgres.start()
    scene.flowing()


def freeze_postgres(scene: Scene, seconds: tuple[float, float] = (3, 8)) -> None:
    """SIGSTOP of all of Postgres's processes, and SIGCONT some seconds later."""
    scene.flowing()
    scene.moment()
    scene.stage.postgres.freeze()
    scene.spooling()
    time.sleep(scene.roll.uniform(*seconds))
    scene.stage.postgres.thaw()
    scene.flowing()


def cut_connections(scene: Scene, more: int = 3) -> None:
    """The connection breaks inside a group, inside its answer, or when it is committed and the answer not yet told."""
    cuts = [*Cut, *scene.roll.choices(list(Cut), k=more)]
    scene.roll.shuffle(cuts)
    for cut in cuts:
        before = scene.stage.proxy.cuts[cut]
        scene.moment(0.1)
        scene.stage.proxy.arm(cut)
        eventually(lambda cut=cut, before=before: scene.stage.proxy.cuts[cut] > before, PATIENCE, 0.005)  # type: ignore[misc]
    scene.stage.proxy.sever()
    scene.flowing()


def freeze_the_way(scene: Scene, seconds: tuple[float, float] = (3, 8)) -> None:
    """The network stands still under commits, for some seconds; then it goes on, or every connection is found dead."""
    scene.flowing()
    scene.stage.proxy.freeze()
    time.sleep(scene.roll.uniform(*seconds))
    if scene.roll.random() < 0.5:
        scene.stage.proxy.sever()
    scene.stage.proxy.thaw()
    scene.flowing()


def restart_both_postgres_first(scene: Scene) -> None:
    """Everything dies at once; Postgres comes back before the receiver does."""
    _all_die(scene)
    scene.stage.postgres.start()
    for service in scene.stage.services:
        service.start()
    scene.flowing()


def restart_both_receiver_first(scene: Scene) -> None:
    """Everything dies at once; the receivers come back first and take receipts while Postgres is away."""
    _all_die(scene)
    for service in scene.stage.services:
        service.start()
    scene.spooling()
    scene.stage.postgres.start()
    scene.flowing()


def _all_die(scene: Scene) -> None:
    scene.flowing()
    scene.moment()
    deaths = [scene.stage.postgres.kill, *(service.kill for service in scene.stage.living())]
    scene.roll.shuffle(deaths)
    for die in deaths:
        die()


def terminate_a_receiver(scene: Scene) -> None:
    """SIGTERM in the midst of the load, perhaps while it spools: it ends with 0 in time. It is started again."""
    scene.flowing()
    scene.moment()
    service = scene.somebody()
    if scene.has_spool and scene.roll.random() < 0.5:
        scene.stage.proxy.refuse()
        scene.until_it_spools(service)
    service.terminate()
    assert service.ends[-1] == 0, service.log
    service.start()
    scene.stage.proxy.admit()
    scene.flowing()


def terminate_a_receiver_twice(scene: Scene) -> None:
    """A second SIGTERM while it finishes what it has in hand, with Postgres frozen: it leaves before that thaws."""
    scene.flowing()
    scene.stage.postgres.freeze()
    scene.moment(0.1)
    service = scene.somebody()
    service.terminate(2, scene.roll.uniform(0, 0.2))
    assert service.ends[-1] in (0, 1), service.log
    scene.stage.postgres.thaw()
    service.start()
    scene.flowing()


def fill_the_disk_of_postgres(scene: Scene) -> None:
    """Postgres can't write, and perhaps gives up; with room again it is started again, if need be."""
    disk = scene.stage.postgres_disk
    assert disk is not None
    scene.flowing()
    scene.moment()
    disk.fill()
    scene.until_it_spools(scene.somebody())
    scene.spooling()
    disk.empty()
    if scene.roll.random() < 0.5 or not scene.stage.postgres.lives:
        scene.stage.postgres.kill()
        scene.stage.postgres.start()
    scene.flowing()


def fill_the_disk_of_the_spool(scene: Scene) -> None:
    """Postgres is away and there is no room for the spool: 503, until there is room again, or Postgres."""
    disk = scene.stage.spool_disk
    assert disk is not None
    scene.flowing()
    scene.stage.proxy.refuse()
    scene.spooling()
    disk.fill()
    scene.refused()
    if scene.roll.random() < 0.5:
        disk.empty()
        scene.flowing(SPOOLED)
    scene.stage.proxy.admit()
    scene.flowing()
    disk.empty()


def kill_one_for_good(scene: Scene) -> None:
    """One receiver of several is killed with receipts in its spool, and stays dead."""
    scene.flowing()
    scene.stage.proxy.refuse()
    scene.spooling()
    scene.moment()
    victim = scene.somebody()
    scene.until_it_spools(victim)
    victim.kill()
    scene.stage.proxy.admit()
    scene.flowing()


Trouble = Callable[[Scene], None]
ANYWHERE: tuple[Trouble, ...] = (
    kill_a_receiver,
    kill_a_receiver_that_spools,
    kill_postgres,
    freeze_postgres,
    cut_connections,
    freeze_the_way,
    restart_both_postgres_first,
    restart_both_receiver_first,
    terminate_a_receiver,
    terminate_a_receiver_twice,
)
NEED_A_SPOOL = (kill_a_receiver_that_spools, restart_both_receiver_first)
WITHOUT_SPOOL = tuple(trouble for trouble in ANYWHERE if trouble not in NEED_A_SPOOL)
ON_SMALL_DISKS: tuple[Trouble, ...] = (fill_the_disk_of_postgres, fill_the_disk_of_the_spool)
