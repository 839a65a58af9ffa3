"""Dockerfile and deploy/: what they name is there, and what they promise of the receiver it keeps."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import httpx2
import pytest

from receiver import duties, metrics
from receiver.app import open_house
from receiver.house import WRITERS
from receiver.settings import ROLES, SETTINGS, read_settings
from tests.database.processes import end_postmasters, postmasters
from tests.receipts.tellings import body
from tests.support import PLATFORM_KEY, SECRET, Database, Receiver, eventually, free_port
from tests.test_docs import DOCS, table

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = ROOT / "deploy" / "receiver.service"
NOBODY = 65534


def copied() -> list[str]:
    """What the build stage takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return [path for line in lines for path in line.split()[:-1]]


def test_what_the_image_is_made_of_is_there_and_not_hidden_from_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert copied()
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    for path in copied():
        assert (ROOT / path).exists(), path
        assert not [rule for rule in rules[1:] if not rule.startswith("!") and fnmatch(path, rule)], path


def test_the_image_has_an_ordinary_user_one_volume_and_no_tools_in_its_last_stage() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    (number,) = re.findall(r"^USER (\d+)$", last, re.MULTILINE)
    assert f"useradd --uid {number} " in last
    assert re.findall(r"^VOLUME (\S+)$", last, re.MULTILINE) == ["/var/lib/receiver"]
    assert not re.search(r"apt-get|pip |gcc", last)
    for name in re.findall(r"RECEIVER_(\w+)=", last):
        assert name in {setting.name for setting in SETTINGS}, name


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may read, and in it the one that an ordinary user may write: `volume`."""
    folder = Path(tempfile.mkdtemp(prefix="rcv-", dir="/tmp"))
    folder.chmod(0o755)
    volume = folder / "volume"
    volume.mkdir(mode=0o700)
    os.chown(volume, NOBODY, NOBODY)
    try:
        yield folder
    finally:
        left = end_postmasters(folder)
        shutil.rmtree(folder)
        assert left == []


def installed(place: Path) -> Path:
    """The wheel, made of what the image is made of and no more, unpacked."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install hatchling")
    source = place / "source"
    source.mkdir()
    for path in copied():
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, source / path)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(place), str(source)]
    ran = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "installed")
    return place / "installed"


@contextlib.contextmanager
def in_a_box(place: Path, *words: str, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`receiver …` as nobody, without HOME, under a root that is read-only but for the volume."""
    volume = place / "volume"
    box = f"mount --bind {volume} {volume} && mount -o remount,bind,ro / && exec "
    box += f'setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", box, "sh"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place / "installed"), "PYTHONDONTWRITEBYTECODE": "1"}
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "receiver", *words],
            cwd="/",
            env=environment | settings,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(40)


def can_box() -> bool:
    """Whether we may make a read-only root: root may, outside of most containers."""
    words = ["unshare", "--mount", "--propagation", "private", "mount", "-o", "remount,bind,ro", "/"]
    return os.geteuid() == 0 and bool(shutil.which("unshare")) and subprocess.run(words, check=False).returncode == 0


@pytest.mark.skipif(not can_box(), reason="only root makes a read-only root (unshare, mount)")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv: apt-get install util-linux")
def test_it_serves_as_an_ordinary_user_from_a_read_only_root_with_one_volume(place: Path) -> None:
    installed(place)
    port = str(free_port())
    settings = {
        "RECEIVER_DATA_DIR": str(place / "volume" / "data"),
        "RECEIVER_SPOOL": str(place / "volume" / "spool"),
        "RECEIVER_PORT": port,
        "RECEIVER_PUBLIC_URL": "https://receipts.example.com",
        "RECEIVER_SECRET": SECRET,
    }
    with in_a_box(place, "migrate", **settings) as migrating:
        assert migrating.wait(60) == 0, (place / "log").read_text()
    with in_a_box(place, "serve", **settings) as process:
        receiver = Receiver(f"http://127.0.0.1:{port}", process, Database("", ""), place / "log")
        eventually(lambda: process.poll() is not None or answers(f"{receiver.url}/readyz"), seconds=60)
        assert process.poll() is None, receiver.log.read_text()
        receipt = body({"deliveryStatus": "Delivered"}, "boxed")
        assert httpx2.post(receiver.notify_url(), content=receipt, trust_env=False).status_code == 200
        assert postmasters(place)
        assert healthy(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, receiver.log.read_text()
    assert not healthy(port)
    assert "Read-only file system" not in receiver.log.read_text()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def healthy(port: str) -> bool:
    """What the image's HEALTHCHECK says."""
    (words,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    command = json.loads(words)
    assert command[0] == "python"
    environment = {**os.environ, "RECEIVER_PORT": port, "no_proxy": "*"}
    ran = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, check=False)
    return ran.returncode == 0


def connections(tmp_path: Path, *roles: str, failures: str = "") -> int:
    """How many a process with these roles makes at most. Nothing is connected: its pools are lazy."""
    nowhere = "postgresql://receiver@127.0.0.1:9/receiver"
    variables = {
        "RECEIVER_DATABASE_URL": nowhere,
        "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
        "RECEIVER_PLATFORM_URL": "http://127.0.0.1:9",
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_SPOOL": str(tmp_path / "spool"),
        "RECEIVER_ROLES": ",".join(roles),
        "RECEIVER_FAILURE_URL": failures,
    }
    settings = read_settings({name: value for name, value in variables.items() if value})
    metrics.POOL_LIMIT.clear()

    async def work() -> int:
        async with open_house(settings, nowhere, SECRET, must_be_there=False):
            return sum(int(sample.value) for family in metrics.POOL_LIMIT.collect() for sample in family.samples)

    return asyncio.run(work())


def test_the_pages_tell_how_many_connections_a_process_makes(tmp_path: Path) -> None:
    told = {role: [int(n) for n in re.findall(r"\d+", cell)] for role, _, cell in table("deploy.md", "role")}
    (notify, always), (api,), (dispatch, both), (upkeep, noticing) = (told[role] for role in ROLES)
    hook = "https://hooks.example.com/failures"
    assert connections(tmp_path, "notify") == always + notify
    assert connections(tmp_path, "api") == always + api
    assert connections(tmp_path, "dispatch") == always + dispatch
    assert connections(tmp_path, "api", "dispatch") == always + both
    assert connections(tmp_path, "upkeep") == always + upkeep
    assert connections(tmp_path, "upkeep", failures=hook) == always + noticing
    (sizes,) = re.findall(r"all roles makes up to (\d+), (\d+) with", (DOCS / "sizing.md").read_text(encoding="utf-8"))
    assert [int(size) for size in sizes] == [
        connections(tmp_path, *ROLES),
        connections(tmp_path, *ROLES, failures=hook),
    ]


def test_each_duty_on_the_common_pool_has_a_connection_of_it() -> None:
    assert Path(duties.__file__).read_text(encoding="utf-8").count("(house.write_pool,") == WRITERS["upkeep"]


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    unit = tmp_path / "receiver.service"
    text = UNIT.read_text()
    assert text.count("ExecStart=/opt/receiver/bin/receiver serve\n") == 1
    unit.write_text(text.replace("/opt/receiver/bin/receiver", sys.executable))
    ran = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_unit_gives_the_draining_its_time_and_leaves_postgres_to_the_receiver() -> None:
    lines = UNIT.read_text().splitlines()
    (stop,) = [int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec=")]
    assert stop > 20
    for line in ("KillMode=mixed", "KillSignal=SIGTERM", "Restart=always", "NoNewPrivileges=yes", "User=receiver"):
        assert line in lines
