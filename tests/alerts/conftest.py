"""One stack for a file of tests: to start it takes longer than most troubles last."""

from collections.abc import Iterator

import pytest

from tests.alerts.stack import Stack, stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("alerts")) as made:
        yield made
