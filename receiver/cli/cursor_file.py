"""The file in which a tail keeps how far it has come: always whole, whenever the process or the machine ends."""

import os
from pathlib import Path

from receiver.errors import ReceiverError

LONGEST = 8_192  # bytes; an id has 6,000 at most


class CursorFile:
    """One id in a file. Raises ReceiverError where it can't be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: str | None = None

    def read(self) -> str | None:
        """The id; None where there is no file yet."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(LONGEST + 1)
            text = raw.decode("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ReceiverError(f"--cursor-file {self._path} can't be read: {_reason(error)}") from None
        if len(raw) > LONGEST or not text or len(text.split()) != 1:
            raise ReceiverError(f"--cursor-file {self._path} is no file of a tail: remove it to begin now")
        return text

    def keep(self, identity: str) -> None:
        """The id is in the file when this returns, or the one before still is."""
        if identity == self._kept:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            with beside.open("w", encoding="ascii") as file:
                file.write(f"{identity}\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise ReceiverError(f"--cursor-file {self._path} can't be written: {_reason(error)}") from None
        except KeyboardInterrupt:
            beside.unlink(missing_ok=True)
            raise
        self._kept = identity


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is no text"
