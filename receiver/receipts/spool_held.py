"""Spool files that a process holds: taking over those of the dead, and leaving them."""

import hashlib
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from receiver import metrics
from receiver.receipts import spool_folder
from receiver.receipts.spool_file import SpoolFile
from receiver.receipts.spool_folder import Claim

log = logging.getLogger("receiver.spool")


@dataclass
class Held:
    """A spool file and the right to it."""

    claim: Claim
    file: SpoolFile

    @property
    def identity(self) -> UUID:
        """The spool's id, under which Postgres knows how far it is drained."""
        return self.claim.identity

    @property
    def waits(self) -> bool:
        """Whether something may wait in it."""
        return self.file.bodies > 0 or self.file.is_broken

    def leave(self) -> None:
        """Closes the file: removed if it is empty, set aside if it is damaged and read to its end. Raises OSError."""
        at_its_end = self.file.next_unit() is None
        self.file.close()
        if not at_its_end:
            self.claim.give_back()
        elif self.file.is_broken:
            self.claim.set_aside()
            _tell_set_aside(self.identity, self.file.unreadable)
        else:
            self.claim.remove()


@dataclass
class Found:
    """What a look into the folder found."""

    orphans: list[Held] = field(default_factory=list)
    foreign: set[UUID] = field(default_factory=set)
    """Of another installation: left alone."""
    unusable: set[UUID] = field(default_factory=set)
    """Not readable by us, or not now: looked at again."""
    left: int = 0
    """Files that were not looked at, because there were orphans enough."""


def installation_of(secret: str) -> bytes:
    """What says in a spool file whose it is: those who know one secret take over each other's files."""
    return hashlib.sha256(b"receiver spool\0" + secret.encode()).digest()[:8]


def take_orphans(folder: Path, known: set[UUID], told: set[UUID], installations: Sequence[bytes], most: int) -> Found:
    """Takes the files that nobody holds, but the known ones: the oldest, `most` of them. Raises OSError for a folder
    that can't be read.

    Of those in `told` nothing new is logged.
    """
    found = Found()
    spool_folder.tidy(folder)
    for identity in spool_folder.files(folder):
        if identity in known:
            continue
        if len(found.orphans) >= most:
            found.left += 1
            continue
        try:
            _take(folder, identity, installations, found)
        except (OSError, sqlite3.Error) as error:  # no right to it, or busy: the others may still be drained
            if identity not in told:
                log.error("spool_not_taken", extra={"spool": str(identity), "reason": str(error)})  # noqa: TRY400
            found.unusable.add(identity)
    return found


def _take(folder: Path, identity: UUID, installations: Sequence[bytes], found: Found) -> None:
    claim = spool_folder.claim(folder, identity)
    if claim is None:
        return
    try:
        if not claim.path.exists():  # its drainer was faster
            claim.remove()
            return
        if claim.path.stat().st_size == 0:  # SQLite would throw away what the log beside it still has
            claim.set_aside()
            _tell_set_aside(identity, 0)
            return
        file = SpoolFile(claim.path)
    except BaseException:
        claim.give_back()
        raise
    installation = file.installation()
    if installation is not None and installation not in installations:
        log.error("spool_of_another", extra={"spool": str(identity)})
        file.close()
        claim.give_back()
        found.foreign.add(identity)
        return
    log.warning("spool_taken_over", extra={"spool": str(identity), "bodies": file.bodies})
    found.orphans.append(Held(claim, file))


def _tell_set_aside(identity: UUID, unreadable: int) -> None:
    metrics.SPOOL_SET_ASIDE.inc()
    log.error("spool_set_aside", extra={"spool": str(identity), "unreadable": unreadable})
