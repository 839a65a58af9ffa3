"""What the operator chooses: read once from RECEIVER_..., every bad value named at once.

A secret may also stand in the file that `RECEIVER_..._FILE` names. Several tenants stand in the TOML file that
RECEIVER_CONFIG names. docs/settings.md lists everything here; a test compares the two.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from receiver.environment import Reader, Setting, is_loopback
from receiver.errors import SettingsError
from receiver.tenant_settings import TENANT_SETTINGS, Tenant, read_tenants
from receiver.waits import DEFAULTS, Waits, duration_text, longest_patience, read_waits

ROLES = ("notify", "api", "dispatch", "upkeep")
# Calls a minute of an API key: 5,000 clients of one key who each wait for half a minute make 10,000.
RATE_LIMIT = 30_000
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

SETTINGS = (
    Setting("HOST", "Address to listen on.", "127.0.0.1"),
    Setting("PORT", "Port to listen on.", "8000"),
    Setting("NOTIFY_PORT", "A port of its own for the receipts door; PORT then serves all else."),
    Setting("NOTIFY_HOST", "Address to listen on for NOTIFY_PORT; as HOST."),
    Setting("REUSE_PORT", "Let several processes listen on the same ports (Linux): yes or no.", "no"),
    Setting("PUBLIC_URL", "The https address under which the platform reaches us; goes out in every notifyurl."),
    Setting("DATABASE_URL", "Postgres to use, as postgresql://… Exactly one of this and DATA_DIR.", secret=True),
    Setting("DATA_DIR", "Folder of an embedded Postgres (extra `embedded`). Exactly one of this and DATABASE_URL."),
    Setting("SECRET", "Signs the notify tokens; 16 characters or more. With DATA_DIR one is made.", secret=True),
    Setting("SECRET_PREVIOUS", "The secret before the last rotation: its tokens are still good.", secret=True),
    Setting("TLS_CERT", "File with the certificate and its chain, PEM: the receiver speaks https itself."),
    Setting("TLS_KEY", "File with the certificate's key, PEM, without a password."),
    Setting("CONFIG", "A TOML file with several tenants."),
    *TENANT_SETTINGS,
    Setting("KEEP_CONTENT", "Keep what was sent after the platform's answer: yes or no.", "no"),
    Setting("MAX_BODY", "Largest body that a door reads, in bytes; at least 1048576.", "2097152"),
    Setting("DISPATCH_CONCURRENCY", "Calls to the platform under way at once.", "16"),
    Setting("PLATFORM_TIMEOUT", "Seconds to wait for the platform's answer.", "30"),
    Setting("LEASE", "Seconds after which another process takes over what one had in hand; PLATFORM_TIMEOUT + 45."),
    Setting("ENTRIES_PER_CALL", "Most entries in one call to the platform.", "1000"),
    Setting("FORWARD_CONCURRENCY", "Receipts that go on to clients' addresses at once.", "16"),
    Setting("FORWARD_QUEUE", "Most receipts of a tenant that wait to go on; the oldest are dropped.", "100000"),
    Setting("RATE_LIMIT", "Calls a minute that each API key may make, in each process; 0: no limit.", str(RATE_LIMIT)),
    Setting("CORS_ORIGINS", "Origins whose pages may call from a browser, commas between; * for all."),
    Setting("RETENTION_DAYS", "Days for which messages and their receipts are kept; weeks go as a whole.", "90"),
    Setting("USUAL_TIMES", "After which time each channel's silence is looked into, such as sms=15m,push=1h."),
    Setting("PATIENCES", "After which time each channel's silent messages are given up, such as sms=72h,push=28d."),
    Setting("QUARANTINE_DAYS", "Days for which bodies in quarantine are kept; weeks go as a whole.", "30"),
    Setting("QUARANTINE_MB", "Most megabytes in quarantine, over all tenants; the oldest go first.", "256"),
    Setting("LEDGER_CHECK_HOURS", "Hours between two counts of all receipts against the ledger; 0: none.", "24"),
    Setting("PROBE_SECONDS", "Seconds between two probes of our own public address, such as 60; 0: none.", "0"),
    Setting("DRAIN_SECONDS", "Seconds that /readyz says 503 after SIGTERM before no connection is taken: 0 to 5.", "2"),
    Setting("IMPORT_MB", "Most megabytes of a file at the import door, packed and unpacked.", "2048"),
    Setting("EXPORTS", "Most exports of messages at once; more are answered 503.", "2"),
    Setting("STREAMS", "Most streams of changes at once; more are answered 503.", "1000"),
    Setting("WAITERS", "Most clients that wait for a message at once; more are answered 503.", "5000"),
    Setting("SPOOL", "Folder where receipts wait while Postgres is away; off: they are answered 503."),
    Setting("SPOOL_MB", "Most megabytes in the spool's folder; above it receipts are answered 503.", "1024"),
    Setting("ROLES", "What this process does, commas between: notify, api, dispatch, upkeep.", ",".join(ROLES)),
    Setting("LOG_LEVEL", "debug, info, warning or error.", "info"),
)

# Push receipts come for 28 days after the send, whatever patience is chosen; a message may have waited for it: a week.
WAITED_DAYS = 7
LEAST_RETENTION_DAYS = 28 + WAITED_DAYS


@dataclass(frozen=True)
class Settings:
    """Everything that the operator chose, checked. Secrets are not in its repr."""

    host: str
    port: int
    public_url: str
    database_url: str | None = field(repr=False)
    data_dir: Path | None
    secret: str | None = field(repr=False)
    secret_previous: str | None = field(repr=False)
    tls_cert: Path | None
    tls_key: Path | None
    tenants: tuple[Tenant, ...]
    keep_content: bool
    max_body: int
    dispatch_concurrency: int
    platform_timeout: float
    lease: float
    entries_per_call: int
    forward_concurrency: int
    forward_queue: int
    retention_days: int
    quarantine_days: int
    quarantine_mb: int
    log_level: str
    roles: tuple[str, ...] = ROLES
    spool: Path | None = None
    """None: off."""
    spool_mb: int = 1024
    import_mb: int = 2048
    waiters: int = 5000
    streams: int = 1000
    exports: int = 2
    ledger_check_hours: int = 24
    """0: off."""
    probe_seconds: int = 0
    """0: off."""
    drain_seconds: int = 2
    notify_port: int | None = None
    notify_host: str = ""
    reuse_port: bool = False
    rate_limit: int = RATE_LIMIT
    """Calls a minute of an API key; 0: off."""
    cors_origins: tuple[str, ...] = ()
    waits: Mapping[str, Waits] = field(default_factory=lambda: DEFAULTS)
    """The usual time and the patience of each channel."""

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name; SettingsError names the ones that there are."""
        for tenant in self.tenants:
            if tenant.name == name:
                return tenant
        known = ", ".join(t.name for t in self.tenants)
        raise SettingsError([f"there is no tenant {name!r}: the settings name {known}"])


def read_settings(environment: Mapping[str, str] = os.environ, *, serving: bool = True) -> Settings:
    """The settings. Raises SettingsError naming every problem at once.

    With `serving` off (operator commands that only open the database) PUBLIC_URL and the platform are not demanded.
    """
    reader = Reader(environment, SETTINGS)
    tenants = read_tenants(reader, reader.text("CONFIG"))
    database_url, data_dir = reader.text("DATABASE_URL"), reader.text("DATA_DIR")
    if bool(database_url) == bool(data_dir):
        which = "both are set" if database_url else "neither is set"
        reader.problems.append(f"exactly one of RECEIVER_DATABASE_URL and RECEIVER_DATA_DIR is needed: {which}")
    if database_url and not database_url.startswith(("postgresql://", "postgres://")):
        reader.problems.append(
            "RECEIVER_DATABASE_URL is no address of a Postgres: it takes postgresql://user@host/name"
        )
    public_url = _public_url(reader, tenants, serving)
    secret, previous = reader.text("SECRET"), reader.text("SECRET_PREVIOUS")
    for name, value in (("SECRET", secret), ("SECRET_PREVIOUS", previous)):
        reader.long_enough(f"RECEIVER_{name}", value)
    if serving and not secret and not data_dir:
        reader.problems.append("RECEIVER_SECRET is missing: it signs the notify tokens (try `openssl rand -hex 32`)")
    tls_cert, tls_key = (_path(reader, name) for name in ("TLS_CERT", "TLS_KEY"))
    if bool(tls_cert) != bool(tls_key):
        reader.problems.append("RECEIVER_TLS_CERT and RECEIVER_TLS_KEY belong together: one of them is missing")
    log_level = (reader.text("LOG_LEVEL") or "").lower()
    if log_level not in ("debug", "info", "warning", "error"):
        reader.problems.append(f"RECEIVER_LOG_LEVEL is {log_level!r}: it takes debug, info, warning or error")
    settings = Settings(
        host=reader.text("HOST") or "",
        port=reader.whole("PORT", 1, 65535),
        public_url=public_url,
        database_url=database_url,
        data_dir=_path(reader, "DATA_DIR"),
        secret=secret,
        secret_previous=previous,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tenants=tenants,
        keep_content=reader.yes("KEEP_CONTENT"),
        max_body=reader.whole("MAX_BODY", 1024 * 1024, 64 * 1024 * 1024),
        dispatch_concurrency=reader.whole("DISPATCH_CONCURRENCY", 1, 1000),
        platform_timeout=float(reader.whole("PLATFORM_TIMEOUT", 1, 300)),
        lease=_lease(reader),
        entries_per_call=reader.whole("ENTRIES_PER_CALL", 1, 1000),
        forward_concurrency=reader.whole("FORWARD_CONCURRENCY", 1, 1000),
        forward_queue=reader.whole("FORWARD_QUEUE", 100, 10_000_000),
        retention_days=reader.whole("RETENTION_DAYS", LEAST_RETENTION_DAYS, 3650),
        quarantine_days=reader.whole("QUARANTINE_DAYS", 1, 3650),
        quarantine_mb=reader.whole("QUARANTINE_MB", 16, 65_536),
        log_level=log_level,
        roles=(roles := _roles(reader)),
        spool=_spool(reader, needed=serving and "notify" in roles),
        spool_mb=reader.whole("SPOOL_MB", 16, 1024 * 1024),
        import_mb=reader.whole("IMPORT_MB", 1, 1024 * 1024),
        ledger_check_hours=reader.whole("LEDGER_CHECK_HOURS", 0, 24 * 365),
        probe_seconds=reader.whole("PROBE_SECONDS", 0, 3600),
        drain_seconds=reader.whole("DRAIN_SECONDS", 0, 5),
        waiters=reader.whole("WAITERS", 1, 100_000),
        streams=reader.whole("STREAMS", 1, 100_000),
        exports=reader.whole("EXPORTS", 1, 100),
        notify_port=reader.whole("NOTIFY_PORT", 1, 65535) if reader.text("NOTIFY_PORT") else None,
        notify_host=reader.text("NOTIFY_HOST") or reader.text("HOST") or "",
        reuse_port=reader.yes("REUSE_PORT"),
        rate_limit=reader.whole("RATE_LIMIT", 0, 10_000_000),
        cors_origins=_origins(reader),
        waits=read_waits(reader),
    )
    longest, patience = longest_patience(settings.waits)
    if timedelta(days=settings.retention_days - WAITED_DAYS) < patience:
        reader.problems.append(
            f"RECEIVER_RETENTION_DAYS is {settings.retention_days}: the patience of {longest} is"
            f" {duration_text(patience)}, and it takes {WAITED_DAYS} days more than that"
        )
    if settings.notify_port == settings.port:
        reader.problems.append("RECEIVER_NOTIFY_PORT is RECEIVER_PORT: it takes a port of its own")
    if settings.quarantine_mb * 1024 * 1024 < 4 * settings.max_body:
        reader.problems.append("RECEIVER_QUARANTINE_MB is too small: it takes four bodies of RECEIVER_MAX_BODY or more")
    if (
        serving and settings.spool and settings.spool_mb * 1024 * 1024 < 2 * settings.max_body
    ):  # such a body could never wait there
        reader.problems.append("RECEIVER_SPOOL_MB is too small: it takes two bodies of RECEIVER_MAX_BODY or more")
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def _roles(reader: Reader) -> tuple[str, ...]:
    """ROLES, in the order in which this version names them."""
    asked = [part.strip().lower() for part in (reader.text("ROLES") or "").split(",") if part.strip()]
    if not asked or set(asked) - set(ROLES):
        reader.problems.append(f"RECEIVER_ROLES is {','.join(asked)!r}: it takes some of {','.join(ROLES)}")
    return tuple(role for role in ROLES if role in asked)


def _origins(reader: Reader) -> tuple[str, ...]:
    """CORS_ORIGINS, as browsers spell them: scheme, host in small letters, and the port where it is not the usual."""
    origins = [part.strip().lower() for part in (reader.text("CORS_ORIGINS") or "").split(",") if part.strip()]
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            reader.problems.append(
                f"RECEIVER_CORS_ORIGINS has {origin!r}: it takes origins such as https://app.example, without a path"
            )
    if "*" in origins and len(origins) > 1:
        reader.problems.append("RECEIVER_CORS_ORIGINS has * beside others: it takes origins, or * alone")
    return tuple(dict.fromkeys(origins))


def _spool(reader: Reader, *, needed: bool) -> Path | None:
    """SPOOL: beside an embedded Postgres, else where systemd or the user keeps state; None for off, and for nowhere."""
    if (reader.text("SPOOL") or "").lower() == "off":
        return None
    if path := _path(reader, "SPOOL"):
        return path
    if data := _path(reader, "DATA_DIR"):
        return data / "spool"
    if state := reader.environment.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(state) / "spool"
    state = reader.environment.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser().absolute() / "receiver" / "spool"
    except RuntimeError:  # a user without a home folder: without a spool only if somebody wants it so
        if needed:
            reader.problems.append("RECEIVER_SPOOL is missing, and there is no home folder for it: say where, or off")
        return None


def _lease(reader: Reader) -> float:
    """LEASE in seconds: longer than a call lasts, or its answer would find the message given up as uncertain."""
    timeout = reader.text("PLATFORM_TIMEOUT") or ""
    least = (int(timeout) if timeout.isascii() and timeout.isdigit() and len(timeout) < 4 else 1) + 2
    return float(reader.whole("LEASE", least, 3600) if reader.text("LEASE") else least + 43)


def _path(reader: Reader, name: str) -> Path | None:
    text = reader.text(name)
    try:
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError:  # ~name of a user that is not there
        reader.problems.append(f"RECEIVER_{name} is {text!r}: there is no such home folder")
        return None


def _public_url(reader: Reader, tenants: tuple[Tenant, ...], serving: bool) -> str:
    """PUBLIC_URL: https and not loopback, unless the platform is on this machine too."""
    text = reader.text("PUBLIC_URL")
    platforms = [t.platform_url for t in tenants if t.platform_url]
    local = bool(platforms) and all(is_loopback(url) for url in platforms)
    if not text:
        if serving:
            reader.problems.append(
                "RECEIVER_PUBLIC_URL is missing: the https address under which the platform reaches us"
            )
        return ""
    if local:
        return reader.url("RECEIVER_PUBLIC_URL", text) or ""
    if is_loopback(text):
        reader.problems.append("RECEIVER_PUBLIC_URL is a loopback address: the platform can't reach it")
        return ""
    return reader.url("RECEIVER_PUBLIC_URL", text) or ""
