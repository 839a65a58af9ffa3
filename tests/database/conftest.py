"""Data folders of embedded Postgres servers."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.database.embedded import serving
from tests.database.processes import end_postmasters


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    """A data folder that was served once: a first start takes ten times as long as the next ones."""
    with tempfile.TemporaryDirectory(prefix="rcv-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        with serving(Path(place, "data")):
            pass
        yield Path(place, "data")


@pytest.fixture
def served(model: Path) -> Iterator[Path]:
    """A data folder that was served before; each test leaves it stopped and whole."""
    yield model
    assert end_postmasters(model) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder to be made, in a place that everybody may pass through."""
    place = Path(tempfile.mkdtemp(prefix="rcv-", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place / "data"
    finally:
        left = end_postmasters(place)
        shutil.rmtree(place, ignore_errors=True)
        assert left == []
