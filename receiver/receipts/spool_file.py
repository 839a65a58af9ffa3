"""One spool file: SQLite in WAL mode with full sync. What is appended is on the disk when `append` returns.

Nothing here is asynchronous: one thread calls it. A damaged file is still read, row by row, and never written again.
"""

import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from receiver.receipts.arrival import Arrival, Unit
from receiver.receipts.spool_row import EPOCH, Wrong, arrival_of, row_of

SCHEMA = (
    "create table origin (installation blob not null)",
    # autoincrement: a number is never used again, so `last_seq` in Postgres never speaks of a later arrival
    """create table arrival (
         seq integer primary key autoincrement, key blob not null, tenant text not null, submission_id blob,
         received_at integer not null, headers text not null, body blob not null, checksum integer not null,
         apart integer not null
       )""",
)
APPEND = """
insert into arrival (key, tenant, submission_id, received_at, headers, body, checksum, apart)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""
COLUMNS = "seq, key, tenant, submission_id, received_at, headers, body, checksum, apart"
FROM = f"select {COLUMNS} from arrival where seq > ? order by seq"
ONE = f"select {COLUMNS} from arrival where seq = ?"
DELETE = "delete from arrival where seq <= ?"
MEASURE = "select count(*), coalesce(sum(length(body) + length(headers)), 0) from arrival"
OLDEST = "select received_at from arrival where seq > ? order by seq limit 1"
LAST = "select max(seq) from sqlite_sequence where name = 'arrival'"
LAST_THERE = "select max(seq) from arrival"
NEXT = "select min(seq) from arrival where seq > ?"
TABLES = "select count(*) from sqlite_master"
INSTALLATION = "select installation from origin"
ORIGIN = "insert into origin (installation) values (?)"

UNBORN = ".unborn"
MOST_BODIES, MOST_BYTES = 256, 2 * 1024 * 1024  # of units that drain together: a group's worth
ROW_BYTES = 128  # a row's keys and numbers, about
MOST_LOST = 1_000_000  # rows in a row that are not found in a damaged file before SQLite is asked for the next
SHRINK_PAGES = 1024  # an empty file of more pages than this gives its room back
# What SQLite says of a file that is not whole: malformed, no database.
DAMAGED = (11, 26)
# A disk that does not give back what was written: READ, SHORT_READ, DATA, CORRUPTFS. Other errors of it may be those of
# a full disk, which has no room for what SQLite keeps beside the file even while it reads.
UNREADABLE = (266, 522, 8202, 8458)


def is_damage(error: sqlite3.Error, *, reading: bool = False) -> bool:
    """Whether the file is not whole, and not only busy or the disk full."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in DAMAGED or (reading and code in UNREADABLE)


class SpoolFile:
    """Arrivals in the order in which they came. Raises sqlite3.Error; the figures are of what still waits."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens a file that is there; damage is found out and borne. Raises sqlite3.Error if it can't be opened."""
        self.path = path
        self.bodies, self.bytes = 0, 0
        self.oldest: datetime | None = None
        self.is_broken = False
        self.unreadable = 0
        self.has_rest = False
        """Whether units that are done still stand in the file, because the disk refused to take them out."""
        self._after, self._last = 0, -1
        self._names: tuple[int | None, ...] = ()
        mode = "ro" if read_only else "rw"
        address = f"file:{quote(str(path))}?mode={mode}"
        self._db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            if not read_only:
                self._db.execute("pragma journal_mode = wal")
                self._db.execute("pragma synchronous = full")
                self._db.execute("pragma journal_size_limit = 16777216")
            self.is_broken = not self._db.execute(TABLES).fetchone()[0]
            if not self.is_broken:
                self._measure()
        except sqlite3.Error as error:
            if not is_damage(error, reading=True):
                self._db.close()
                raise
            self.is_broken = True
        self._names = self._found()

    @classmethod
    def create(cls, path: Path, installation: bytes) -> "SpoolFile":
        """A new, empty file that only we can read, durable with its name. Raises sqlite3.Error or OSError."""
        unborn = path.with_suffix(UNBORN)  # whatever bears its real name was whole once
        os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            db = sqlite3.connect(unborn, isolation_level=None)
            try:
                db.execute("pragma journal_mode = wal")
                db.execute("pragma synchronous = full")
                db.execute("begin")
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute(ORIGIN, (installation,))
                db.execute("commit")
            finally:
                db.close()
            os.rename(unborn, path)
            fsync_folder(path.parent)
            return cls(path)
        except (sqlite3.Error, OSError):
            for file in (unborn, path):
                file.unlink(missing_ok=True)
            raise

    def installation(self) -> bytes | None:
        """Whose file it is; None where that can't be read any more."""
        try:
            row = self._db.execute(INSTALLATION).fetchone()
        except sqlite3.DatabaseError:
            return None
        return bytes(row[0]) if row else None

    def is_there(self) -> bool:
        """Whether the file and its log still bear their names: SQLite goes on writing what somebody has removed."""
        return self._found() == self._names

    def append(self, key: UUID, arrivals: Sequence[Arrival], *, apart: bool = False) -> None:
        """Adds `arrivals` in one transaction. On return they are on the disk.

        `apart`: they may be in Postgres already, under their key, so they drain by themselves.
        """
        rows = [row_of(key, arrival, apart) for arrival in arrivals]
        self._db.execute("begin immediate")
        try:
            self._db.executemany(APPEND, rows)
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise
        self.bodies += len(arrivals)
        self.bytes += sum(len(row[4]) + len(row[5]) for row in rows)
        if self.oldest is None:
            self.oldest = arrivals[0].received_at

    def next_unit(self) -> Unit | None:
        """The oldest unit that waits, or None. Of a damaged file what can be read of it."""
        if not self.is_broken:
            try:
                return self._read()
            except sqlite3.DatabaseError as error:
                if not is_damage(error, reading=True):
                    raise
            except Wrong:
                pass
            self.is_broken = True
        return self._salvage()

    def done(self, unit: Unit) -> None:
        """Forgets a unit whose effect is durable elsewhere. Where the disk refuses, only this process forgets it until
        `take_out` goes well.
        """
        self._after = unit.seq
        self.bodies = max(self.bodies - len(unit.arrivals), 0)
        self.bytes = max(self.bytes - sum(len(a.body) + len(a.kept_headers()) for a in unit.arrivals), 0)
        if self.is_broken:
            return
        try:
            self.take_out()
            row = self._db.execute(OLDEST, (unit.seq,)).fetchone()
            self.oldest = None if row is None else EPOCH + timedelta(microseconds=row[0])
            if row is None:
                self.bodies, self.bytes = 0, 0
                self._shrink()
        except sqlite3.Error as error:
            if is_damage(error):
                self.is_broken = True
            if self.bodies == 0:
                self.oldest = None

    def take_out(self) -> None:
        """Deletes the units that are done. Raises sqlite3.Error if the disk refuses."""
        self.has_rest = True
        # Not synced: what comes back after a crash of the machine is known in Postgres by its number.
        self._db.execute("pragma synchronous = normal")
        try:
            self._db.execute(DELETE, (self._after,))
        finally:
            self._db.execute("pragma synchronous = full")
        self.has_rest = False

    def free_bytes(self) -> int:
        """Room inside the file that the next arrivals use."""
        pages, size = (self._db.execute(f"pragma {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        return int(pages * size)

    def try_write(self) -> None:
        """Writes something that changes nothing, and syncs. Raises sqlite3.Error if the disk refuses."""
        self._db.execute("update origin set installation = installation")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _found(self) -> tuple[int | None, ...]:
        return tuple(_inode(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))

    def _measure(self) -> None:
        self.bodies, self.bytes = self._db.execute(MEASURE).fetchone()
        row = self._db.execute(OLDEST, (0,)).fetchone()
        self.oldest = None if row is None else EPOCH + timedelta(microseconds=row[0])

    def _read(self) -> Unit | None:
        """The oldest group; with those behind it that were spooled apart from it only because they came later."""
        arrivals: list[Arrival] = []
        numbers: list[int] = []
        first, key, alone = b"", b"", False
        for row in self._db.execute(FROM, (self._after,)):
            begins = row[1] != key  # never in the middle of a group: its key stands for all of it
            if arrivals and begins and (alone or row[8] or len(arrivals) >= MOST_BODIES or self._is_large(arrivals)):
                break
            key, alone = row[1], bool(row[8])
            first = first or key
            numbers.append(row[0])
            arrivals.append(arrival_of(row))
        if not arrivals:
            self.bodies, self.bytes, self.oldest = 0, 0, None
            return None
        return Unit(numbers[-1], UUID(bytes=first), arrivals, numbers, first == key)

    @staticmethod
    def _is_large(arrivals: Sequence[Arrival]) -> bool:
        return sum(len(arrival.body) for arrival in arrivals) >= MOST_BYTES

    def _salvage(self) -> Unit | None:
        arrivals: list[Arrival] = []
        numbers: list[int] = []
        key = b""
        if self._last < 0:
            self._last = self._number(LAST, ()) or self._number(LAST_THERE, ())
        seq = seen = self._after
        while seq < self._last:
            if seq - seen >= MOST_LOST:  # drained and deleted long ago, or beyond reading
                seq = seen = (self._number(NEXT, (seq,)) or self._last + 1) - 1
                continue
            try:
                row = self._db.execute(ONE, (seq + 1,)).fetchone()
                arrival = None if row is None else arrival_of(row)
            except (sqlite3.DatabaseError, Wrong):
                self.unreadable += 1
                row = arrival = None
            if arrival is not None:
                if arrivals and row[1] != key:
                    break
                key, seen = row[1], row[0]
                numbers.append(row[0])
                arrivals.append(arrival)
            seq += 1
        if not arrivals:
            self._after, self.bodies, self.bytes, self.oldest = seq, 0, 0, None
            return None
        self.oldest = arrivals[0].received_at
        return Unit(seq, UUID(bytes=key), arrivals, numbers, True)

    def _number(self, statement: str, parameters: tuple[int, ...]) -> int:
        try:
            row = self._db.execute(statement, parameters).fetchone()
        except sqlite3.DatabaseError:
            return 0
        return int(row[0]) if row and isinstance(row[0], int) else 0

    def _shrink(self) -> None:
        if self._db.execute("pragma page_count").fetchone()[0] > SHRINK_PAGES:
            self._db.execute("vacuum")
        self._db.execute("pragma wal_checkpoint(truncate)")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
