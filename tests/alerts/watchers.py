"""Real Prometheus and real Alertmanager, each a process on loopback that is ended by its id."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support import eventually, free_port
from tests.tools import need


@contextlib.contextmanager
def prometheus(folder: Path, *, rules: Path, target: str, alertmanager: str) -> Iterator[httpx2.Client]:
    """One that scrapes `target` each second and works through `rules` as often; a client of it."""
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [_host(alertmanager)]}]}]},
                "scrape_configs": [{"job_name": "receiver", "static_configs": [{"targets": [_host(target)]}]}],
            }
        )
    )
    port = free_port()
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _process([need("prometheus"), *options], folder / "prometheus.log", port) as client:
        yield client


@contextlib.contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[httpx2.Client]:
    """One that works by `config`; a client of it."""
    port = free_port()
    options = [
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with _process([need("prometheus-alertmanager"), *options], folder / "alertmanager.log", port) as client:
        yield client


def answer(client: httpx2.Client, query: str) -> list[dict[str, Any]]:
    """What a query of Prometheus gives now."""
    body = client.get("/api/v1/query", params={"query": query}).raise_for_status().json()
    found: list[dict[str, Any]] = body["data"]["result"]
    return found


@contextlib.contextmanager
def _process(command: list[str], log: Path, port: int) -> Iterator[httpx2.Client]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            eventually(lambda: process.poll() is not None or _is_ready(client), seconds=60)
            assert process.poll() is None, log.read_text()
            yield client
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx2.HTTPError:
        return False


def _host(url: str) -> str:
    return url.removeprefix("http://").rstrip("/")
