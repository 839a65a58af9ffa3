"""A small disk of the trouble's own, to be filled to the last byte and emptied again."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The cluster, and its log, of which it gives nothing back below max_wal_size; the rest is filled.
POSTGRES_MEGABYTES = 512


class SmallDisk:
    """A file system in memory, mounted on `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Not a block is left; nobody who writes can be quicker, as it is done again until then."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        block = 1024 * 1024
        try:
            while block:
                try:
                    os.write(descriptor, b"\0" * block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block //= 2
        finally:
            os.close(descriptor)

    def empty(self) -> None:
        """There is room again."""
        self._ballast.unlink(missing_ok=True)


def why_not() -> str | None:
    """Why no disk can be mounted here; None where it can."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "only root on Linux can mount a small disk"
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return None if tried.returncode == 0 else "this machine lets nobody mount a disk"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounted on `folder`, which is made; gone afterwards. Everybody may pass through it."""
    folder.mkdir()
    options = f"size={megabytes}m,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: whoever still has a file open there must not keep it in our tree.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
