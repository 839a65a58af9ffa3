"""Simulated platforms as processes: one for each tenant, so that trouble meets one and not the other."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.support import PLATFORM_KEY, environment_of, eventually, free_port, receiver_command

SPEED: Final = 0.2  # delivered 0.8 s after the submission
Step = dict[str, Any]
# One call in fifty fails, as on a good day; all others are delivered.
GOOD_DAY: Final[tuple[Step, ...]] = ({"every": 50, "fate": "failed"}, {"fate": "delivered"})


@dataclass
class Platform:
    """The platform of one tenant."""

    url: str
    http: httpx2.Client

    def play(self, *steps: Step) -> None:
        """From now on these steps come before those of a good day."""
        answer = self.http.post("/sandbox/scenario", json={"step": [*steps, *GOOD_DAY]})
        assert answer.status_code == 200, answer.text

    @contextlib.contextmanager
    def trouble(self, *steps: Step) -> Iterator[None]:
        """The steps for as long as it lasts."""
        self.play(*steps)
        try:
            yield
        finally:
            self.play()


@contextlib.contextmanager
def platform(folder: Path, name: str) -> Iterator[Platform]:
    """`receiver sandbox` on a good day."""
    port = free_port()
    options = [f"--port={port}", f"--key={PLATFORM_KEY}", f"--speed={SPEED}"]
    with (folder / f"platform-{name}.log").open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "sandbox", *options], env=environment_of(), stdout=output, stderr=output
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
            eventually(lambda: process.poll() is not None or _serves(http), seconds=45)
            assert process.poll() is None
            made = Platform(f"http://127.0.0.1:{port}", http)
            made.play()
            yield made
    finally:
        process.terminate()
        process.wait(25)


def _serves(http: httpx2.Client) -> bool:
    try:
        return http.get("/sandbox/scenario").status_code == 200
    except httpx2.HTTPError:
        return False
