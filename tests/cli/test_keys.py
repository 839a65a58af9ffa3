"""`receiver keys create|list|revoke|rotate`, as an operator or a script runs them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from receiver.__main__ import main
from receiver.access.keys import hash_of
from tests.support import Database, cloned

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "keys") as database:
        yield database


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "tenants.toml"
    file.write_text('[tenant.shop]\nplatform_key = "a key of the shop"\n[tenant.clinic]\n')
    return file


@pytest.fixture
def keys(
    database: Database, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Keys":
    database.fetch("delete from api_key")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", database.dsn)
    monkeypatch.setenv("RECEIVER_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "80")
    return Keys(database, monkeypatch, capsys)


class Ran(NamedTuple):
    stdout: str
    stderr: str


@dataclass
class Keys:
    """`receiver keys …` on one database, with two more tenants in the settings: by the front door, in this process."""

    database: Database
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str, code: int = 0) -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["receiver", "keys", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        ran = Ran(*self.capsys.readouterr())
        assert (ended.value.code or 0) == code, ran.stderr
        return ran

    def told(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def sentence(self, *words: str, code: int) -> str:
        """What a refusal says, in lines that each begin with the program's name."""
        ran = self.run(*words, code=code)
        assert ran.stdout == ""
        lines = ran.stderr.splitlines()
        assert lines
        assert all(line.startswith("receiver: ") for line in lines), ran.stderr
        return ran.stderr

    def row(self, prefix: str) -> dict[str, Any]:
        [row] = self.database.fetch("select * from api_key where prefix = $1", prefix)
        return dict(row)


def test_a_key_is_shown_once_and_stored_as_a_hash(keys: Keys) -> None:
    ran = keys.run("create", "--name", "warehouse", "--scopes", "read,content", "--expires", "90d", "--rate", "120")
    key = ran.stdout.strip()
    assert "can't be shown again" in ran.stderr
    row = keys.row(key[:15])
    assert (row["hash"], row["name"], row["scopes"], row["rate"]) == (
        hash_of(key),
        "warehouse",
        ["read", "content"],
        120,
    )
    assert abs(row["expires_at"] - row["created_at"] - 90 * DAY) < timedelta(minutes=1)
    assert key not in str(row)
    for shown in (keys.run("list").stdout, keys.run("list", "--json").stdout):
        assert key[:15] in shown
        assert key[16:] not in shown


def test_an_end_may_be_a_time_and_is_none_when_none_is_said(keys: Keys) -> None:
    made = keys.told("create", "--name", "a", "--expires", "2099-01-31T01:00:00+01:00")
    assert keys.row(made["prefix"])["expires_at"] == datetime(2099, 1, 31, tzinfo=UTC)
    assert made["state"] == "active"
    assert keys.told("create", "--name", "b")["expires_at"] is None


def test_every_tenant_of_the_settings_has_keys_of_its_own(keys: Keys) -> None:
    for tenant in ("default", "shop", "clinic"):
        made = keys.told("create", "--tenant", tenant, "--name", "app")
        assert made["tenant"] == tenant
        found = keys.told("list", "--tenant", tenant)
        assert [key["prefix"] for key in found] == [made["prefix"]]
    assert [key["tenant"] for key in keys.told("list")] == ["default", "shop", "clinic"]
    for words in (("create", "--name", "app"), ("list",), ("revoke", "--name", "app"), ("rotate", "--name", "app")):
        said = keys.sentence(*words, "--tenant", "shopp", code=2)
        assert "shopp" in said
        assert all(tenant in said for tenant in ("default", "shop,", "clinic"))


def test_a_key_of_a_tenant_that_is_configured_no_more_can_be_ended(keys: Keys) -> None:
    keys.database.key("read", tenant="gone")
    keys.told("revoke", "--tenant", "gone", "--name", "tests")
    assert [key["state"] for key in keys.told("list", "--tenant", "gone")] == ["revoked"]


def test_everything_that_is_wrong_with_a_new_key_is_said_at_once(keys: Keys) -> None:
    said = keys.sentence("create", "--scopes", "read,everything", "--expires", "yesterday", code=2)
    assert len(said.splitlines()) == 3
    for words in ("--name", "everything", "send, read, content, admin", "--expires: 'yesterday'"):
        assert words in said
    for expires in ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00", "0d", "-1d", "99999d", ""):
        assert "--expires" in keys.sentence("create", "--name", "a", "--expires", expires, code=2)
    assert keys.told("list") == []


def test_the_list_says_what_has_become_of_each_key(keys: Keys) -> None:
    assert "receiver keys create" in keys.run("list").stderr
    active, expired, revoked = (keys.told("create", "--name", name)["prefix"] for name in ("one", "two", "three"))
    long_ago, used = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    keys.database.fetch("update api_key set expires_at = $2 where prefix = $1", expired, long_ago)
    keys.database.fetch("update api_key set last_used_at = $2 where prefix = $1", active, used)
    keys.told("revoke", revoked)
    found = {key["prefix"]: key for key in keys.told("list")}
    assert {prefix: key["state"] for prefix, key in found.items()} == {
        active: "active",
        expired: "expired",
        revoked: "revoked",
    }
    assert set(found[active]) == {
        *("prefix", "name", "tenant", "scopes", "rate", "state"),
        *("created_at", "expires_at", "last_used_at", "revoked_at"),
    }
    assert found[active]["last_used_at"] == "2026-02-03T04:05:00Z"
    assert [key["prefix"] for key in keys.told("list", "--state", "expired")] == [expired]
    assert "active, expired, revoked" in keys.sentence("list", "--state", "dead", code=2)
    table = keys.run("list").stdout
    assert max(map(len, table.splitlines())) <= 80
    for text in (active, expired, revoked, "one", "three", "2026-01-02 03:04", "2026-02-03 04:05", "used    never"):
        assert text in table


def test_a_key_is_revoked_by_its_prefix_and_once_more_changes_nothing(keys: Keys) -> None:
    key = keys.run("create", "--name", "app").stdout.strip()
    assert "within 5 seconds" in keys.run("revoke", key[:15]).stdout
    since = keys.row(key[:15])["revoked_at"]
    assert "already" in keys.run("revoke", key).stdout  # the key itself will do: it was found in a log
    assert keys.row(key[:15])["revoked_at"] == since
    assert "receiver keys list" in keys.sentence("revoke", "rk_000000000000", code=1)
    assert "PREFIX" not in keys.sentence("revoke", code=2)
    assert "--name" in keys.sentence("revoke", key[:15], "--name", "app", code=2)


def test_a_name_that_several_active_keys_have_is_refused_and_the_prefixes_are_named(keys: Keys) -> None:
    first, second = (keys.told("create", "--tenant", "shop", "--name", "app")["prefix"] for _ in range(2))
    other = keys.told("create", "--name", "app")["prefix"]
    said = keys.sentence("revoke", "--tenant", "shop", "--name", "app", code=1)
    assert first in said
    assert second in said
    assert other not in said
    keys.told("revoke", first)
    assert keys.told("revoke", "--tenant", "shop", "--name", "app")["prefix"] == second
    assert keys.told("revoke", "--tenant", "shop", "--name", "app")["before"] is True
    assert keys.row(other)["revoked_at"] is None


def test_a_successor_is_like_the_old_key_which_goes_on_for_a_while(keys: Keys) -> None:
    old = keys.told("create", "--tenant", "shop", "--name", "app", "--scopes", "send,read", "--rate", "9")["prefix"]
    made = keys.told("rotate", "--tenant", "shop", "--name", "app")
    assert (made["tenant"], made["name"], made["scopes"], made["rate"]) == ("shop", "app", ["send", "read"], 9)
    assert (made["expires_at"], made["old"]["prefix"]) == (None, old)
    assert keys.row(made["prefix"])["hash"] == hash_of(made["key"])
    ends = keys.row(old)["expires_at"]
    assert abs(ends - datetime.now(UTC) - DAY) < timedelta(minutes=2)
    assert {key["state"] for key in keys.told("list")} == {"active"}


def test_the_old_key_never_goes_on_for_longer_than_it_would_have(keys: Keys) -> None:
    old = keys.told("create", "--name", "app", "--expires", "12h")["prefix"]
    ends = keys.row(old)["expires_at"]
    made = keys.told("rotate", old, "--overlap", "7d")
    assert keys.row(old)["expires_at"] == ends
    row = keys.row(made["prefix"])
    assert abs(row["expires_at"] - row["created_at"] - DAY / 2) < timedelta(minutes=1)  # as long as the old one's
    ended = keys.told("rotate", made["prefix"], "--overlap", "0", "--expires", "30d")
    assert [key["state"] for key in keys.told("list")] == ["active", "expired", "active"]
    assert abs(keys.row(ended["prefix"])["expires_at"] - datetime.now(UTC) - 30 * DAY) < timedelta(minutes=2)


def test_a_key_that_has_ended_gets_no_successor(keys: Keys) -> None:
    prefix = keys.told("create", "--name", "app")["prefix"]
    keys.told("revoke", prefix)
    assert "receiver keys create" in keys.sentence("rotate", prefix, code=1)
    assert "--overlap" in keys.sentence("rotate", prefix, "--overlap", "soon", code=2)
    assert len(keys.told("list")) == 1
