"""schemathesis reads /openapi.json and calls the running service with what it makes of it: it must find nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.access.walking import World, world
from tests.support import cloned, environment_of

EXAMPLES = 8  # of each phase and door
SEED = 20261121
SECONDS = 150  # a bound for the whole: on two idle cores it takes a fifth of it

# What can't hold at a door, with the cause:
CONFIG = """
# Broken rules of the platform (422), a span upside down and a cursor of nobody's (400) fit the schema.
checks.positive_data_acceptance.expected-statuses = ["2xx", 304, 400, 401, 403, 404, 408, 409, 410, 413, 422, 429]
phases.coverage.unexpected-methods = ["DELETE", "PUT", "OPTIONS"]

[[operations]]  # it has no end; tests/queries holds it
include-operation-id = "stream_changes"
enabled = false

[[operations]]
include-operation-id = "get_message"
parameters = { "query.wait" = 0.1 }  # who asks for a minute gets a minute

[[operations]]  # all is told in the platform's envelope under 200
include-tag = "Drop-in"
checks.ignored_auth.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]  # any method is taken for POST: a 405 would lose a receipt for ever
include-tag = "Receipts"
checks.unsupported_method.enabled = false
checks.allow_header_conformance.enabled = false
"""


@pytest.fixture(scope="module")
def filled(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("schemathesis")
    with cloned(postgres, template, "schemathesis") as database, world(database, folder) as made:
        yield made


def test_schemathesis_finds_nothing(filled: World, tmp_path: Path) -> None:
    key = filled.receiver.database.key()
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    options = [
        *("--config-file", str(config), "run"),
        *("--header", f"Authorization: Bearer {key}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
        "--continue-on-failure",
        *("--seed", str(SEED), "--generation-deterministic"),
        *("--request-timeout", "10", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
    ]
    command = [str(Path(sys.executable).parent / "st"), *options, f"{filled.receiver.url}/openapi.json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment_of(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert filled.receiver.process.poll() is None
    assert "Traceback" not in filled.receiver.log.read_text()
