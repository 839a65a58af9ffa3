"""Where the spool is and how much it holds: what could not work is refused at the start, and its folder is durable."""

import os
import pwd
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.receipts import spool_folder
from receiver.settings import Settings, read_settings
from tests.support import SECRET

GOOD = {
    "RECEIVER_DATABASE_URL": "postgresql://receiver@database/receiver",
    "RECEIVER_PUBLIC_URL": "https://receiver.example",
    "RECEIVER_SECRET": SECRET,
}
MEGABYTE = 1024 * 1024


def settings(**more: str) -> Settings:
    return read_settings({**GOOD, **{f"RECEIVER_{name}": text for name, text in more.items()}})


def test_a_spool_that_could_never_hold_the_largest_body_is_refused() -> None:
    assert settings(SPOOL_MB="32", MAX_BODY=str(16 * MEGABYTE)).spool_mb == 32
    with pytest.raises(SettingsError) as caught:
        settings(SPOOL_MB="32", MAX_BODY=str(16 * MEGABYTE + 1))
    [problem] = caught.value.problems
    assert "RECEIVER_SPOOL_MB" in problem
    assert "RECEIVER_MAX_BODY" in problem
    assert settings(SPOOL="off", SPOOL_MB="16", MAX_BODY=str(16 * MEGABYTE)).spool is None


def test_a_user_without_a_home_folder_must_say_where_the_spool_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SettingsError) as caught:
        settings()
    [problem] = caught.value.problems
    assert "RECEIVER_SPOOL is missing" in problem
    assert settings(SPOOL="off").spool is None
    assert settings(SPOOL=str(tmp_path)).spool == tmp_path
    assert read_settings({**GOOD, "XDG_STATE_HOME": str(tmp_path)}).spool == tmp_path / "receiver" / "spool"


def test_each_folder_that_is_made_for_the_spool_has_a_durable_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced = set()
    sync = os.fsync

    def seen(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    spool_folder.make(tmp_path / "state" / "receiver" / "spool")
    assert synced == {tmp_path, tmp_path / "state", tmp_path / "state" / "receiver"}
    synced.clear()
    spool_folder.make(tmp_path / "state" / "receiver" / "spool")
    assert synced == {tmp_path / "state" / "receiver"}
