"""What commands of the user are tried against: a receiver that serves, and the environment of one who asks it."""

from collections.abc import Iterator

import pytest

from tests.sending.platforms import recording_platform
from tests.support import Receiver, cloned, environment_of, receiver_process


@pytest.fixture(scope="module")
def receiver(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Receiver]:
    """A receiver of the module's own, with all roles, and a platform that takes everything."""
    name = request.path.stem.removeprefix("test_")
    with (
        cloned(postgres, template, name) as database,
        recording_platform() as platform,
        receiver_process(database, tmp_path_factory.mktemp(name), platform_url=platform.url) as receiver,
    ):
        yield receiver


@pytest.fixture(scope="module")
def variables(receiver: Receiver) -> dict[str, str]:
    """The environment of a command that speaks to it."""
    return environment_of(RECEIVER_URL=receiver.url, RECEIVER_API_KEY=receiver.database.key()) | {"COLUMNS": "160"}
