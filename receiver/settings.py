"""What the operator chooses: read once from RECEIVER_..., every bad value named at once.

A secret may also stand in the file that `RECEIVER_..._FILE` names. Several tenants stand in the TOML file that
RECEIVER_CONFIG names. docs/settings.md lists everything here; a test compares the two.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any

from receiver.environment import Reader, Setting, is_loopback
from receiver.errors import SettingsError

SHORTEST_SECRET = 16


SETTINGS = (
    Setting("HOST", "Address to listen on.", "127.0.0.1"),
    Setting("PORT", "Port to listen on.", "8000"),
    Setting("PUBLIC_URL", "The https address under which the platform reaches us; goes out in every notifyurl."),
    Setting("DATABASE_URL", "Postgres to use, as postgresql://… Exactly one of this and DATA_DIR.", secret=True),
    Setting("DATA_DIR", "Folder of an embedded Postgres (extra `embedded`). Exactly one of this and DATABASE_URL."),
    Setting("SECRET", "Signs the notify tokens; 16 characters or more. With DATA_DIR one is made.", secret=True),
    Setting("SECRET_PREVIOUS", "The secret before the last rotation: its tokens are still good.", secret=True),
    Setting("CONFIG", "A TOML file with several tenants."),
    Setting("PLATFORM_URL", "Base address of the platform for the tenant `default`."),
    Setting("PLATFORM_KEY", "Service key of the tenant `default`.", secret=True),
    Setting("PLATFORM_ZONE", "Time zone of the platform's time stamps that name none.", "UTC"),
    Setting("CAMPAIGN_URL", "Base address of Webex Campaign for the tenant `default`."),
    Setting("CAMPAIGN_TOKEN", "Bearer token for Webex Campaign.", secret=True),
    Setting("KEEP_CONTENT", "Keep what was sent after the platform's answer: yes or no.", "no"),
    Setting("MAX_BODY", "Largest body that a door reads, in bytes; at least 1048576.", "2097152"),
    Setting("DISPATCH_CONCURRENCY", "Calls to the platform under way at once.", "16"),
    Setting("PLATFORM_TIMEOUT", "Seconds to wait for the platform's answer.", "30"),
    Setting("LOG_LEVEL", "debug, info, warning or error.", "info"),
)


@dataclass(frozen=True)
class Tenant:
    """One service on the platform. Its secrets are not in its repr."""

    name: str
    platform_url: str | None = None
    platform_key: str | None = field(default=None, repr=False)
    campaign_url: str | None = None
    campaign_token: str | None = field(default=None, repr=False)
    zone: tzinfo = UTC


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
    tenants: tuple[Tenant, ...]
    keep_content: bool
    max_body: int
    dispatch_concurrency: int
    platform_timeout: float
    log_level: str

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
    tenants = _tenants(reader)
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
        if value and len(value) < SHORTEST_SECRET:
            reader.problems.append(f"RECEIVER_{name} is too short: it takes {SHORTEST_SECRET} characters or more")
    if serving and not secret and not data_dir:
        reader.problems.append("RECEIVER_SECRET is missing: it signs the notify tokens (try `openssl rand -hex 32`)")
    log_level = (reader.text("LOG_LEVEL") or "").lower()
    if log_level not in ("debug", "info", "warning", "error"):
        reader.problems.append(f"RECEIVER_LOG_LEVEL is {log_level!r}: it takes debug, info, warning or error")
    settings = Settings(
        host=reader.text("HOST") or "",
        port=reader.whole("PORT", 1, 65535),
        public_url=public_url,
        database_url=database_url,
        data_dir=_folder(reader, data_dir),
        secret=secret,
        secret_previous=previous,
        tenants=tenants,
        keep_content=reader.yes("KEEP_CONTENT"),
        max_body=reader.whole("MAX_BODY", 1024 * 1024, 64 * 1024 * 1024),
        dispatch_concurrency=reader.whole("DISPATCH_CONCURRENCY", 1, 1000),
        platform_timeout=float(reader.whole("PLATFORM_TIMEOUT", 1, 300)),
        log_level=log_level,
    )
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def _folder(reader: Reader, text: str | None) -> Path | None:
    try:
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError:  # ~name of a user that is not there
        reader.problems.append(f"RECEIVER_DATA_DIR is {text!r}: there is no such home folder")
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


TENANT_KEYS = (
    "platform_url",
    "platform_key",
    "platform_key_file",
    "campaign_url",
    "campaign_token",
    "campaign_token_file",
    "platform_zone",
)


def _tenants(reader: Reader) -> tuple[Tenant, ...]:
    """The tenant `default` of the variables, and those of the TOML file."""
    default = Tenant(
        name="default",
        platform_url=reader.url("RECEIVER_PLATFORM_URL", reader.text("PLATFORM_URL")),
        platform_key=reader.key("RECEIVER_PLATFORM_KEY", reader.text("PLATFORM_KEY")),
        campaign_url=reader.url("RECEIVER_CAMPAIGN_URL", reader.text("CAMPAIGN_URL")),
        campaign_token=reader.key("RECEIVER_CAMPAIGN_TOKEN", reader.text("CAMPAIGN_TOKEN")),
        zone=reader.zone("RECEIVER_PLATFORM_ZONE", reader.text("PLATFORM_ZONE") or "UTC"),
    )
    tenants = {"default": default}
    file = reader.text("CONFIG")
    if file:
        try:
            table = tomllib.loads(Path(file).read_text())
        except OSError as error:
            reader.problems.append(f"RECEIVER_CONFIG: {file} can't be read: {error.strerror}")
            table = {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            reader.problems.append(f"RECEIVER_CONFIG: {file} is no TOML: {error}")
            table = {}
        for key in table:
            if key != "tenant":
                reader.problems.append(f"{file}: {key!r} is not known there: it takes [tenant.NAME] tables")
        named = table.get("tenant", {})
        if not isinstance(named, dict):
            reader.problems.append(f"{file}: 'tenant' is no table: it takes [tenant.NAME] tables")
            named = {}
        for name, values in named.items():
            tenants[name] = _tenant(reader, f"{file}: tenant.{name}", name, values)
    return tuple(tenants.values())


def _tenant(reader: Reader, where: str, name: str, values: Any) -> Tenant:
    if not isinstance(values, dict):
        reader.problems.append(f"{where} is no table")
        return Tenant(name)
    if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 40):
        reader.problems.append(f"{where}: a tenant's name has letters, digits, - and _, 40 at most")
    for key, value in values.items():
        if key not in TENANT_KEYS:
            reader.problems.append(f"{where}.{key} is not known: it takes {', '.join(TENANT_KEYS)}")
        elif not isinstance(value, str):
            reader.problems.append(f"{where}.{key} is no text")
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    for key in ("platform_key", "campaign_token"):
        if file := texts.get(f"{key}_file"):
            if texts.get(key):
                reader.problems.append(f"{where}.{key} and {where}.{key}_file are both set: keep one")
            texts[key] = reader.secret_file(f"{where}.{key}_file", file)
    return Tenant(
        name=name,
        platform_url=reader.url(f"{where}.platform_url", texts.get("platform_url")),
        platform_key=reader.key(f"{where}.platform_key", texts.get("platform_key")),
        campaign_url=reader.url(f"{where}.campaign_url", texts.get("campaign_url")),
        campaign_token=reader.key(f"{where}.campaign_token", texts.get("campaign_token")),
        zone=reader.zone(f"{where}.platform_zone", texts.get("platform_zone", "UTC")),
    )
