"""Who runs the programs of the embedded Postgres, and with which rights: Postgres refuses to be root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

# initdb writes about 40 MB and syncs it; stopping waits for a checkpoint (embedded.py bounds it at 80 s).
RUN_SECONDS = 180
# All of our environment that Postgres may see: the rest holds our secrets and PG* variables of others.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# In the order in which we ask: to search and read any folder; or (what a container is usually left with) to
# pass over every permission.
CAPABILITIES = ("dac_read_search", "dac_override")


class EmbeddedError(Exception):
    """One sentence for the operator: what is wrong and what to do."""


@dataclass(frozen=True)
class PostgresUser:
    """The user of Postgres's programs; without a ``uid`` they run as ourselves."""

    name: str
    uid: int | None = None
    gid: int | None = None
    capability: str | None = None

    def spawn(self, command: Sequence[str | Path], *, stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, so that Ctrl-C in our terminal does not reach it.

        It inherits no descriptor but the given ones (a lock of ours that it kept would outlive us) and no
        folder, as its user may not be allowed into ours. Raises EmbeddedError when it can't be started.
        """
        words = [os.fspath(word) for word in command]
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}
        switch = self.uid is not None and self.capability is None
        try:
            return subprocess.Popen(
                [*self._prefix(), *words],
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
                user=self.uid if switch else None,
                group=self.gid if switch else None,
                extra_groups=[] if switch else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(
                f"Postgres can't be started as user {self.name} ({error}): run the receiver as an ordinary"
                " user, or as a root that may change its user."
            ) from error

    def run(self, command: Sequence[str | Path], said: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program to its end with ``said`` as its input, and return its exit code and its words.

        Raises EmbeddedError when it can't be started or takes longer than RUN_SECONDS.
        """
        process = self.spawn(command, stdin=subprocess.PIPE, output=subprocess.PIPE)
        try:
            output, _ = process.communicate(said.encode(), timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedError(f"{command[0]} was not done after {RUN_SECONDS} s: look at the disk.") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return subprocess.CompletedProcess(list(command), process.returncode, output.decode(errors="replace"))

    def own(self, descriptor: int) -> None:
        """Make an open file or folder this user's (by descriptor: no link can lead us to another)."""
        if self.uid is not None and self.gid is not None:
            os.fchown(descriptor, self.uid, self.gid)

    def own_folder(self, folder: Path, **files: str) -> None:
        """Make a folder, with these files in it, that is this user's alone; no link is followed."""
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name, text in files.items():
                write_private(folder / name, text, self)
            os.fchmod(descriptor, 0o700)
            self.own(descriptor)
        finally:
            os.close(descriptor)

    def reaches(self, *folders: Path) -> bool:
        """Tell whether this user, with this capability, may pass through to each of the folders."""
        return self.run(["/bin/sh", "-c", 'for f; do cd "$f" || exit 1; done', "sh", *folders]).returncode == 0

    def _prefix(self) -> list[str]:
        # Postgres and initdb stat and open absolute paths (their own program, their libraries, the cluster),
        # so one folder above that its user may not search stops them. We open no folder of the operator's:
        # the programs get the one capability that looks past it, as an ambient one, which survives exec.
        # They also ask access() about their own program, and access() disregards the capabilities of an
        # ordinary user unless the securebit no_setuid_fixup is set.
        if self.capability is None:
            return []
        capabilities = f"-all,+{self.capability}"
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            f"--inh-caps={capabilities}",
            f"--ambient-caps={capabilities}",
            "--securebits=+no_setuid_fixup",
        ]


def choose_user(cluster: Path, folders: Sequence[Path]) -> PostgresUser:
    """Choose who runs Postgres on this cluster: ourselves; or, when we are root, somebody else.

    That is the owner of the cluster, else the user postgres, else nobody; with a capability only when one of
    the folders can't be reached without. Raises EmbeddedError when neither helps.
    """
    if os.geteuid() != 0:
        return PostgresUser(str(os.geteuid()))
    plain = _stand_in(cluster)
    if plain.reaches(*folders):
        return plain
    # Without setpriv there are no capabilities to give.
    with suppress(EmbeddedError):
        for user in (replace(plain, capability=name) for name in CAPABILITIES):
            if user.reaches(*folders):
                return user
    shut = next(filter(None, (_first_shut(plain, folder) for folder in folders)), folders[0])
    raise EmbeddedError(
        f"The user {plain.name}, who runs Postgres as root must not, can't reach {shut}: let it pass there"
        f" (chmod o+x {shut}), use a folder elsewhere, or run the receiver as an ordinary user."
    )


def _stand_in(cluster: Path) -> PostgresUser:
    owner = cluster.lstat() if cluster.exists() else None
    if owner is not None and owner.st_uid != 0:
        try:
            entry = pwd.getpwuid(owner.st_uid)
        except KeyError:
            return PostgresUser(str(owner.st_uid), owner.st_uid, owner.st_gid)
        return PostgresUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return PostgresUser(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "Postgres can't run as root, and there is no user postgres or nobody here: add a user postgres, or"
        " run the receiver as an ordinary user."
    )


def _first_shut(user: PostgresUser, folder: Path) -> Path | None:
    """Name the topmost folder on the way that the user may not search, as far as permission bits tell."""
    for step in (*reversed(folder.parents), folder):
        status = step.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & 1:
            return step
    return None


def write_private(path: Path, text: str, user: PostgresUser | None = None) -> None:
    """Write a file that only we (or this user) can read; it appears whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
        if user is not None:
            user.own(descriptor)
    os.replace(new, path)


def sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
