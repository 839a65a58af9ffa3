"""What the operator chooses: every bad value is named at once, and no secret is ever shown."""

import contextlib
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from receiver.errors import SettingsError
from receiver.settings import SETTINGS, Settings, read_settings

GOOD = {
    "RECEIVER_DATABASE_URL": "postgresql://user:database-password@localhost/receiver",
    "RECEIVER_PUBLIC_URL": "https://receiver.example",
    "RECEIVER_SECRET": "the-secret-of-the-tokens",
    "RECEIVER_PLATFORM_URL": "https://platform.example/",
    "RECEIVER_PLATFORM_KEY": "the-key-of-the-platform",
}
LONG = "another secret, long enough"
SERVICE_SECRET = "dGhlLXNlY3JldC1vZi10aGUtc2VydmljZQ=="
SECRETS = ("database-password", "the-secret-of-the-tokens", "the-key-of-the-platform")


def settings(**changes: str | None) -> Settings:
    environment: dict[str, str | None] = {**GOOD, **{f"RECEIVER_{k}": v for k, v in changes.items()}}
    return read_settings({k: v for k, v in environment.items() if v is not None})


def problems(**changes: str | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    return caught.value.problems


def test_good_settings_are_read_with_their_defaults() -> None:
    read = settings()
    assert (read.host, read.port, read.log_level) == ("127.0.0.1", 8000, "info")
    assert (read.keep_content, read.max_body, read.dispatch_concurrency, read.platform_timeout) == (
        False,
        2 * 1024 * 1024,
        16,
        30.0,
    )
    assert read.tenant("default").platform_url == "https://platform.example"
    assert read.data_dir is None


def test_a_tenant_s_questions_a_minute_are_read_from_a_variable_or_its_table(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text('[tenant.shop]\npolls_per_minute = 0\n[tenant.clinic]\npolls_per_minute = "6000"\n[tenant.bank]\n')
    read = settings(CONFIG=str(file), POLLS_PER_MINUTE="5")
    asked = {tenant.name: tenant.polls_per_minute for tenant in read.tenants}
    assert asked == {"default": 5, "shop": 0, "clinic": 6000, "bank": 60}
    for bad in ("6001", "-1", "1.5", "many"):
        assert [f for f in problems(POLLS_PER_MINUTE=bad) if "POLLS_PER_MINUTE" in f and "0 to 6000" in f]


def test_every_bad_setting_is_named_at_once() -> None:
    found = problems(
        PORT="0",
        MAX_BODY="1",
        KEEP_CONTENT="perhaps",
        LOG_LEVEL="loud",
        DISPATCH_CONCURRENCY="x",
        PLATFORM_TIMEOUT="1.5",
        PUBLIC_URL=None,
        SECRET="short",
        SECRET_PREVIOUS="short",
        PLATFORM_ZONE="Mars/Olympus",
        PLATFORM_URL="ftp://platform.example",
        DATA_DIR="/somewhere",
        NONSENSE="1",
        CONFIG="/no/such/file.toml",
    )
    for name in (
        "PORT",
        "MAX_BODY",
        "KEEP_CONTENT",
        "LOG_LEVEL",
        "DISPATCH_CONCURRENCY",
        "PLATFORM_TIMEOUT",
        "PUBLIC_URL",
        "SECRET",
        "SECRET_PREVIOUS",
        "PLATFORM_ZONE",
        "PLATFORM_URL",
        "DATA_DIR",
        "NONSENSE",
        "CONFIG",
    ):
        assert [problem for problem in found if f"RECEIVER_{name}" in problem], name
    assert all("\n" not in problem for problem in found)


@pytest.mark.parametrize("name", ["PORT", "MAX_BODY", "DISPATCH_CONCURRENCY", "PLATFORM_TIMEOUT"])
@pytest.mark.parametrize("value", ["-1", "0x10", "²", "1e3", "9" * 5_000, "1_000", "+5", " ; "])
def test_what_is_no_number_is_a_problem_and_no_fault(name: str, value: str) -> None:
    assert len(problems(**{name: value})) == 1


@tried(deadline=None)  # the time of an example is the machine's
@given(st.text(max_size=40))
def test_no_text_makes_reading_fail_otherwise(text: str) -> None:
    for setting in SETTINGS:
        if setting.name == "CONFIG":
            continue
        with contextlib.suppress(SettingsError):
            settings(**{setting.name: text})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"PUBLIC_URL": None}, "missing"),
        ({"PUBLIC_URL": "http://receiver.example"}, "not https"),
        ({"PUBLIC_URL": "https://127.0.0.1:8000"}, "loopback"),
        ({"PUBLIC_URL": "https://127.8.8.8"}, "loopback"),
        ({"PUBLIC_URL": "http://localhost:8000"}, "loopback"),
        ({"PUBLIC_URL": "http://[::1]:8000"}, "loopback"),
        ({"PUBLIC_URL": "http://127.0.0.1:8000", "PLATFORM_URL": None}, "loopback"),
        ({"PUBLIC_URL": "receiver.example"}, "no address"),
        ({"PUBLIC_URL": "https://"}, "no address"),
        ({"PUBLIC_URL": "http://[bad"}, "no address"),
        ({"PUBLIC_URL": "https://host:99999"}, "no address"),
        ({"PUBLIC_URL": "https://user:word@host"}, "no address"),
        ({"PUBLIC_URL": "https://host/?q=1"}, "no address"),
        ({"PUBLIC_URL": "https://ho st/"}, "no address"),
    ],
)
def test_a_public_url_that_the_platform_can_not_reach_is_refused(changes: dict[str, str | None], says: str) -> None:
    found = problems(**changes)
    assert len(found) == 1
    assert "RECEIVER_PUBLIC_URL" in found[0]
    assert says in found[0]


def test_a_loopback_public_url_is_good_for_a_platform_on_this_machine() -> None:
    read = settings(PUBLIC_URL="http://127.0.0.1:8000/", PLATFORM_URL="http://localhost:8001")
    assert read.public_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("changes", [{"DATA_DIR": "/somewhere"}, {"DATABASE_URL": None}, {"DATABASE_URL": "mysql://x"}])
def test_exactly_one_database_is_named(changes: dict[str, str | None]) -> None:
    assert [problem for problem in problems(**changes) if "DATABASE_URL" in problem]


def test_with_a_data_folder_no_secret_is_needed_and_else_it_is(tmp_path: Path) -> None:
    assert settings(DATABASE_URL=None, DATA_DIR=str(tmp_path), SECRET=None).secret is None
    assert [problem for problem in problems(SECRET=None) if "RECEIVER_SECRET is missing" in problem]


def test_a_home_folder_that_is_not_there_is_named() -> None:
    assert "RECEIVER_DATA_DIR" in problems(DATABASE_URL=None, DATA_DIR="~nobody-of-that-name/x")[0]


def test_secrets_stand_in_no_repr_and_no_text() -> None:
    read = settings(SECRET_PREVIOUS="the-secret-before-that", CAMPAIGN_TOKEN="the-campaign-token")
    for text in (repr(read), str(read), f"{read.tenants}"):
        assert not any(secret in text for secret in (*SECRETS, "the-secret-before-that", "the-campaign-token"))


def test_every_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    beside = {"SIGNATURE_SECRET": LONG, "NOTIFY_HEADER": "X-Api-Key", "NOTIFY_HEADER_VALUE": LONG}
    signing = {"PLATFORM_KEY": None, "SERVICE_ID": "svc-1"}
    for setting in (s for s in SETTINGS if s.secret):
        file = tmp_path / setting.name
        hook = "https://hooks.example.com/a-secret-path"
        others_text = {"SERVICE_SECRET": SERVICE_SECRET, "FORWARD_TO": hook, "FAILURE_URL": hook}
        text = others_text.get(setting.name, "a long enough secret")
        file.write_text(f"{GOOD.get(f'RECEIVER_{setting.name}', text)}\n")
        others = {**beside, **signing} if setting.name == "SERVICE_SECRET" else beside
        if setting.name == "FAILURE_SECRET":
            others = {**beside, "FAILURE_URL": hook}
        read = settings(**{**others, setting.name: None, f"{setting.name}_FILE": str(file)})
        assert isinstance(read, Settings)
    assert read.tenant("default").platform_key == "the-key-of-the-platform"


HOOK = "https://hooks.example.com/a-secret-path"


def test_where_failures_are_told_is_read_from_variables_or_a_table(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(f'[tenant.shop]\nfailure_url = "{HOOK}"\nfailure_format = "slack"\n[tenant.quiet]\n')
    also = {"FAILURE_ALSO": "No_Receipt, observed", "FAILURE_DIGEST_SECONDS": "300", "FAILURE_SECRET": LONG}
    read = settings(CONFIG=str(file), FAILURE_URL=HOOK, **also)
    default, shop = read.tenant("default").failures, read.tenant("shop").failures
    assert default is not None
    assert (default.url, default.format, default.digest_seconds, default.secret) == (HOOK, "json", 300, LONG)
    assert default.also == {"no_receipt", "observed"}
    assert shop is not None
    assert (shop.format, shop.digest_seconds, shop.secret, shop.also) == ("slack", 60, None, frozenset())
    assert read.tenant("quiet").failures is None
    for secret in (LONG, "a-secret-path"):
        assert secret not in repr(read)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"FAILURE_URL": "http://hooks.example.com/"}, "no failure can be posted to RECEIVER_FAILURE_URL: it is plain"),
        ({"FAILURE_URL": "https://10.0.0.1/"}, "not public"),
        ({"FAILURE_URL": HOOK, "FAILURE_FORMAT": "xml"}, "RECEIVER_FAILURE_FORMAT is 'xml'"),
        ({"FAILURE_URL": HOOK, "FAILURE_DIGEST_SECONDS": "86401"}, "RECEIVER_FAILURE_DIGEST_SECONDS is '86401'"),
        ({"FAILURE_URL": HOOK, "FAILURE_DIGEST_SECONDS": "-1"}, "RECEIVER_FAILURE_DIGEST_SECONDS is '-1'"),
        ({"FAILURE_URL": HOOK, "FAILURE_ALSO": "clicked"}, "RECEIVER_FAILURE_ALSO has clicked"),
        ({"FAILURE_URL": HOOK, "FAILURE_SECRET": "short"}, "RECEIVER_FAILURE_SECRET is too short"),
        ({"FAILURE_SECRET": LONG}, "RECEIVER_FAILURE_SECRET is set, and RECEIVER_FAILURE_URL is missing"),
    ],
    ids=["http", "private", "format", "long", "negative", "also", "short", "no-url"],
)
def test_a_wrong_setting_of_failures_is_named(changes: dict[str, str], says: str) -> None:
    (found,) = problems(**changes)
    assert says in found
    assert "a-secret-path" not in found


def test_what_a_command_of_tail_was_handed_is_no_setting() -> None:
    assert isinstance(settings(CHANGE_ID="01a1fda7-9714-779d-a3fc-b1fa03eda994"), Settings)


def test_a_service_signs_in_place_of_the_key() -> None:
    tenant = settings(PLATFORM_KEY=None, SERVICE_ID="svc-1", SERVICE_SECRET=SERVICE_SECRET).tenant("default")
    assert (tenant.service_id, tenant.service_secret, tenant.platform_key) == ("svc-1", SERVICE_SECRET, None)
    assert SERVICE_SECRET not in repr(tenant)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SERVICE_ID": "svc-1"}, "RECEIVER_SERVICE_ID is set, and RECEIVER_SERVICE_SECRET is missing"),
        ({"SERVICE_SECRET": SERVICE_SECRET}, "RECEIVER_SERVICE_SECRET is set, and RECEIVER_SERVICE_ID is missing"),
        (
            {"SERVICE_ID": "svc-1", "SERVICE_SECRET": SERVICE_SECRET, "PLATFORM_KEY": "the-key-of-the-platform"},
            "RECEIVER_PLATFORM_KEY and RECEIVER_SERVICE_ID with RECEIVER_SERVICE_SECRET are both set: keep one",
        ),
        *(
            ({"SERVICE_ID": "svc-1", "SERVICE_SECRET": bad}, "RECEIVER_SERVICE_SECRET is no base64")
            for bad in (SERVICE_SECRET[:-1], f"*{SERVICE_SECRET}", "c2Vj cmV0", "c2Vjc-_0", "geheimnis-é", "====")
        ),
        ({"PLATFORM_API": "v3"}, "RECEIVER_PLATFORM_API is 'v3': it takes v1 or v2"),
    ],
)
def test_bad_credentials_are_named_and_not_shown(changes: dict[str, str], says: str) -> None:
    (found,) = problems(**{"PLATFORM_KEY": None, **changes})
    assert found.startswith(says)
    assert not any(secret in found for name, secret in changes.items() if name == "SERVICE_SECRET")


def test_a_tenant_s_version_of_messaging_is_v1_unless_it_says_v2(tmp_path: Path) -> None:
    text = (
        f"[tenant.new]\nplatform_api = 'v2'\nservice_id = 'svc-1'\nservice_secret = '{SERVICE_SECRET}'\n[tenant.old]\n"
    )
    read = settings(**config(tmp_path, text))
    assert [read.tenant(name).platform_api for name in ("default", "new", "old")] == ["v1", "v2", "v1"]
    assert read.tenant("new").service_secret == SERVICE_SECRET
    assert SERVICE_SECRET not in repr(read)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't be read"), (b"", "is empty"), (b"\xff\xfe\x00", "not text")]
)
def test_a_secret_s_file_that_holds_none_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    assert [p for p in problems(SECRET=None, SECRET_FILE=str(file)) if "RECEIVER_SECRET_FILE" in p and says in p]


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("another secret, long enough")
    assert "both set" in problems(SECRET_FILE=str(file))[0]


def test_a_key_that_fits_into_no_header_is_named_and_not_shown() -> None:
    for key in ("ключ", "two\nlines"):
        (found,) = problems(PLATFORM_KEY=key)
        assert "RECEIVER_PLATFORM_KEY" in found
        assert key not in found


@pytest.mark.parametrize("name", ["RECEIVER_PROT", "RECEIVER_PORT_FILE", "RECEIVER_", "RECEIVER_SECRET_FILE_FILE"])
def test_a_variable_that_is_no_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**GOOD, name: "1"})
    assert caught.value.problems[0].startswith(f"{name} is no setting")


def test_the_variables_of_the_user_s_commands_are_known() -> None:
    read_settings({**GOOD, "RECEIVER_URL": "x", "RECEIVER_API_KEY": "y", "RECEIVER_API_KEY_FILE": "z"})


def test_a_signature_and_a_header_are_read_with_their_previous_values() -> None:
    tenant = settings(
        SIGNATURE_SECRET=LONG,
        SIGNATURE_SECRET_PREVIOUS=f"{LONG} 2",
        SIGNATURE_REQUIRED="yes",
        NOTIFY_HEADER="Authorization",
        NOTIFY_HEADER_VALUE=f"Basic {LONG}",
        NOTIFY_HEADER_VALUE_PREVIOUS=f"Basic {LONG} 2",
    ).tenant("default")
    assert tenant.signature_secrets == (LONG, f"{LONG} 2")
    assert tenant.signature_required
    assert (tenant.notify_header, tenant.notify_header_values) == (
        "authorization",
        (f"Basic {LONG}", f"Basic {LONG} 2"),
    )
    assert LONG not in repr(tenant)
    assert settings().tenant("default").signature_secrets == ()
    assert not settings(SIGNATURE_SECRET=LONG).tenant("default").signature_required


HALF_SET = [
    ({"SIGNATURE_REQUIRED": "yes"}, "SIGNATURE_SECRET is missing"),
    ({"SIGNATURE_REQUIRED": "perhaps"}, "takes yes or no"),
    ({"SIGNATURE_SECRET": "short"}, "SIGNATURE_SECRET is too short"),
    ({"SIGNATURE_SECRET": LONG, "SIGNATURE_SECRET_PREVIOUS": "short"}, "SECRET_PREVIOUS is too short"),
    ({"SIGNATURE_SECRET_PREVIOUS": LONG}, "SIGNATURE_SECRET is missing"),
    ({"NOTIFY_HEADER": "X-Api-Key"}, "NOTIFY_HEADER_VALUE is missing"),
    ({"NOTIFY_HEADER_VALUE": LONG}, "NOTIFY_HEADER is missing"),
    ({"NOTIFY_HEADER": "X Api Key", "NOTIFY_HEADER_VALUE": LONG}, "takes the name of a header"),
    ({"NOTIFY_HEADER": "X-Api-Key:", "NOTIFY_HEADER_VALUE": LONG}, "takes the name of a header"),
    ({"NOTIFY_HEADER": "X-Schlüssel", "NOTIFY_HEADER_VALUE": LONG}, "takes the name of a header"),
    ({"NOTIFY_HEADER": "X-Api-Key", "NOTIFY_HEADER_VALUE": "short"}, "HEADER_VALUE is too short"),
    ({"NOTIFY_HEADER": "X-Api-Key", "NOTIFY_HEADER_VALUE": f"{LONG}\nx"}, "can't stand in an HTTP header"),
]


@pytest.mark.parametrize(("changes", "says"), HALF_SET, ids=[says for _, says in HALF_SET])
def test_half_a_protection_is_named(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    (found,) = problems(**changes)
    assert f"RECEIVER_{says}" in found or says in found
    assert found.startswith("RECEIVER_")
    lines = "\n".join(f"{name.lower()} = {json.dumps(value)}" for name, value in changes.items())
    (found,) = problems(**config(tmp_path, f"[tenant.shop]\n{lines}\n"))
    assert ": tenant.shop." in found
    assert says.split()[-1] in found
    assert LONG not in found


def test_the_files_of_tls_belong_together() -> None:
    read = settings(TLS_CERT="/etc/tls/cert.pem", TLS_KEY="/etc/tls/key.pem")
    assert (read.tls_cert, read.tls_key) == (Path("/etc/tls/cert.pem"), Path("/etc/tls/key.pem"))
    assert (settings().tls_cert, settings().tls_key) == (None, None)
    for half in ("TLS_CERT", "TLS_KEY"):
        (found,) = problems(**{half: "/etc/tls/one.pem"})
        assert "belong together" in found


def config(tmp_path: Path, text: str) -> dict[str, Any]:
    file = tmp_path / "receiver.toml"
    file.write_text(text)
    return {"CONFIG": str(file)}


def test_several_tenants_stand_in_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-in-a-file-long-enough\n")
    text = f"""
    [tenant.shop]
    platform_url = "https://shop.example/"
    platform_key_file = "{tmp_path}/key"
    platform_zone = "Asia/Kolkata"
    signature_secret_file = "{tmp_path}/key"
    signature_required = true
    notify_header = "X-Api-Key"
    notify_header_value_file = "{tmp_path}/key"
    [tenant.listens-only]
    """
    read = settings(**config(tmp_path, text))
    shop = read.tenant("shop")
    assert (shop.platform_url, shop.platform_key, shop.zone) == (
        "https://shop.example",
        "key-in-a-file-long-enough",
        ZoneInfo("Asia/Kolkata"),
    )
    assert (shop.signature_secrets, shop.signature_required) == (("key-in-a-file-long-enough",), True)
    assert (shop.notify_header, shop.notify_header_values) == ("x-api-key", ("key-in-a-file-long-enough",))
    assert read.tenant("listens-only").platform_key is None
    assert read.tenant("default").platform_key == "the-key-of-the-platform"
    with pytest.raises(SettingsError, match="default, shop, listens-only"):
        read.tenant("nobody")
    assert "key-in-a-file" not in repr(read)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "no TOML"),
        ("[tenants.x]\n", "'tenants' is not known"),
        ("tenant = 5\n", "no table"),
        ("[[tenant]]\nname = 'x'\n", "no table"),
        ("[tenant]\nx = 5\n", "tenant.x is no table"),
        ("[tenant.'bad name']\n", "a tenant's name"),
        ("[tenant.x]\nplatfrom_url = 'x'\n", "platfrom_url is not known"),
        ("[tenant.x]\nplatform_key = 5\n", "platform_key is no text"),
        ("[tenant.x]\nplatform_key = true\n", "platform_key is no text"),
        ("[tenant.x]\nsignature_required = 1\n", "signature_required is no text"),
        ("[tenant.x]\nsignature_required = true\n", "signature_secret is missing"),
        ("[tenant.x]\nnotify_header_value = 'short'\n", "too short"),
        ("[tenant.x]\nplatform_url = 'http://shop.example'\n", "not https"),
        ("[tenant.x]\nplatform_zone = 'Mars'\n", "time zone"),
        ("[tenant.x]\nplatform_key_file = '/no/such/file'\n", "can't be read"),
        ("[tenant.x]\nplatform_key = 'a'\nplatform_key_file = '/no/such/file'\n", "both set"),
    ],
)
def test_what_is_wrong_in_the_toml_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    assert [problem for problem in problems(**config(tmp_path, text)) if says in problem]


def test_retention_is_never_shorter_than_the_longest_patience_and_a_week() -> None:
    assert settings(PATIENCES="push=60d", RETENTION_DAYS="67").waits["push"].patience.days == 60
    (problem,) = problems(PATIENCES="push=60d", RETENTION_DAYS="66")
    assert "RECEIVER_RETENTION_DAYS" in problem
    assert "push is 60d" in problem
    assert settings(PATIENCES="push=1d,rt=1d,whatsapp=1d", RETENTION_DAYS="35").retention_days == 35


def test_a_retention_below_the_longest_patience_is_refused_and_the_bound_is_named() -> None:
    assert settings().retention_days == 90
    assert settings(RETENTION_DAYS="35").retention_days == 35
    for wrong in ("34", "0", "3651", "90d"):
        [problem] = problems(RETENTION_DAYS=wrong)
        assert problem.endswith("it takes a whole number from 35 to 3650")
        assert "RECEIVER_RETENTION_DAYS" in problem


def test_the_bounds_of_the_quarantine_are_read_and_hold_some_bodies() -> None:
    assert (settings().quarantine_days, settings().quarantine_mb) == (30, 256)
    read = settings(QUARANTINE_DAYS="1", QUARANTINE_MB="16", MAX_BODY=str(4 * 1024 * 1024))
    assert (read.quarantine_days, read.quarantine_mb) == (1, 16)
    for wrong in ({"QUARANTINE_DAYS": "0"}, {"QUARANTINE_MB": "15"}, {"QUARANTINE_MB": "much"}):
        [problem] = problems(**wrong)
        assert f"RECEIVER_{next(iter(wrong))}" in problem
    [problem] = problems(QUARANTINE_MB="16", MAX_BODY=str(4 * 1024 * 1024 + 1))
    assert "four bodies" in problem


def test_the_spool_is_where_state_is_kept_and_beside_an_embedded_postgres(tmp_path: Path) -> None:
    def spool(**more: str) -> Path | None:
        return read_settings({**GOOD, **more}).spool

    assert spool(HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path)) == tmp_path / "receiver" / "spool"
    assert spool(STATE_DIRECTORY=f"{tmp_path}/a:{tmp_path}/b") == tmp_path / "a" / "spool"
    assert spool(STATE_DIRECTORY=str(tmp_path), RECEIVER_SPOOL=f"{tmp_path}/c") == tmp_path / "c"
    assert spool(STATE_DIRECTORY=str(tmp_path), RECEIVER_SPOOL="Off") is None
    embedded = settings(DATABASE_URL=None, DATA_DIR=str(tmp_path))
    assert (embedded.spool, embedded.spool_mb) == (tmp_path / "spool", 1024)
    assert "RECEIVER_SPOOL_MB" in problems(SPOOL_MB="15")[0]
