"""A tenant's settings: those of `default` from RECEIVER_..., those of the others from a TOML file, one table each.

Both are read by the same lines: a table's key is the variable's name in small letters, without RECEIVER_.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Any

from receiver.environment import Reader, Setting
from receiver.failure_settings import FAILURE_SETTINGS, FailureNotices, read_failure_notices
from receiver.targets import NOTHING, Allowed, parse_allowed, refused_target

TENANT_SETTINGS = (
    Setting("PLATFORM_URL", "Base address of the platform for the tenant `default`."),
    Setting("PLATFORM_KEY", "Service or profile key of the tenant `default`.", secret=True),
    Setting("SERVICE_ID", "Id of the service whose secret signs a token for each call, in place of the key."),
    Setting("SERVICE_SECRET", "The service's secret, base64 as the platform shows it.", secret=True),
    Setting("DROP_IN_KEYS", "More keys that clients of the drop-in doors may show, commas between.", secret=True),
    Setting("PLATFORM_API", "Which Messaging the platform is sent: v1 or v2.", "v1"),
    Setting("RATE", "Most messages a second to the platform, over all processes; not set: no limit."),
    Setting("RESEND_UNCERTAIN", "Minutes after which a message that may have been sent is sent again; 0: never.", "0"),
    Setting("POLLS_PER_MINUTE", "Most questions a minute about messages without a final receipt; 0: none.", "60"),
    Setting("PLATFORM_ZONE", "Time zone of the platform's time stamps that name none.", "UTC"),
    Setting("CAMPAIGN_URL", "Base address of Webex Campaign for the tenant `default`."),
    Setting("CAMPAIGN_TOKEN", "Bearer token for Webex Campaign.", secret=True),
    Setting("SIGNATURE_SECRET", "What the platform signs receipts with: checks x-hub-signature.", secret=True),
    Setting("SIGNATURE_SECRET_PREVIOUS", "The signature's secret before the last rotation, still good.", secret=True),
    Setting("SIGNATURE_REQUIRED", "Refuse receipts without a signature: yes or no.", "no"),
    Setting("NOTIFY_HEADER", "Name of a header that every receipt must bear, such as Authorization."),
    Setting("NOTIFY_HEADER_VALUE", "The value of that header, to the letter.", secret=True),
    Setting("NOTIFY_HEADER_VALUE_PREVIOUS", "Its value before the last rotation, still good.", secret=True),
    Setting("FORWARD_TO", "Where receipts go on to that have no notifyurl of a client's own.", secret=True),
    Setting("FORWARD_ALLOW", "Hosts and networks to which receipts may go on though they are not public, or http."),
    *FAILURE_SETTINGS,
)
# Keys that may stand without quotes.
NUMBERS = ("rate", "resend_uncertain", "polls_per_minute", "failure_digest_seconds")
MOST_POLLS = 6_000  # a minute: more than four calls at once can ask
MOST_PATIENCE = 1_440  # minutes: so long the content of what is uncertain is kept
TENANT_KEYS = tuple(
    key
    for setting in TENANT_SETTINGS
    for key in ((setting.name.lower(), f"{setting.name.lower()}_file") if setting.secret else (setting.name.lower(),))
)


@dataclass(frozen=True)
class Tenant:
    """One service on the platform. Its secrets are not in its repr."""

    name: str
    platform_url: str | None = None
    platform_key: str | None = field(default=None, repr=False)
    service_id: str | None = None
    service_secret: str | None = field(default=None, repr=False)
    """Base64, as the platform shows it; with the service's id in place of the key."""
    platform_api: str = "v1"
    drop_in_keys: tuple[str, ...] = field(default=(), repr=False)
    """Keys that clients show at the drop-in doors, beside the one that the tenant shows the platform."""
    rate: float | None = None
    """Messages a second to the platform, over all processes; None: no limit."""
    resend_uncertain: timedelta | None = None
    """How long after its call an uncertain message without a receipt is sent again, once; None: never."""
    polls_per_minute: int = 60
    """Calls a minute to the transaction status, over all processes; 0: none."""
    campaign_url: str | None = None
    campaign_token: str | None = field(default=None, repr=False)
    zone: tzinfo = UTC
    signature_secrets: tuple[str, ...] = field(default=(), repr=False)
    """The present one and the previous one; none: signatures are not looked at."""
    signature_required: bool = False
    notify_header: str | None = None
    notify_header_values: tuple[str, ...] = field(default=(), repr=False)
    forward_to: str | None = field(default=None, repr=False)
    forward_allow: Allowed = NOTHING
    failures: FailureNotices | None = None
    """Where its failures are posted; None: nowhere."""


def read_tenants(reader: Reader, file: str | None) -> tuple[Tenant, ...]:
    """The tenant `default` of the variables, and those of the TOML file. The reader collects what is wrong."""
    default = _tenant(reader, "default", reader.text, lambda name: f"RECEIVER_{name}")
    tenants = {"default": default}
    for name, values in _tables(reader, file).items() if file else ():
        tenants[name] = _of_table(reader, f"{file}: tenant.{name}", name, values)
    return tuple(tenants.values())


def _tenant(reader: Reader, name: str, text: Callable[[str], str | None], where: Callable[[str], str]) -> Tenant:
    """One tenant, wherever its texts come from; `where` tells the operator which one is meant."""
    texts = {setting.name: text(setting.name) for setting in TENANT_SETTINGS}  # once: each reading names its problems
    secrets = _rotated(reader, "SIGNATURE_SECRET", texts, where)
    required = reader.yes_or_no(where("SIGNATURE_REQUIRED"), texts["SIGNATURE_REQUIRED"] or "no")
    if required and not secrets:
        reader.problems.append(f"{where('SIGNATURE_REQUIRED')} is yes, and {where('SIGNATURE_SECRET')} is missing")
    values = _rotated(reader, "NOTIFY_HEADER_VALUE", texts, where)
    for part in ("NOTIFY_HEADER_VALUE", "NOTIFY_HEADER_VALUE_PREVIOUS"):
        reader.key(where(part), texts[part])
    if texts["NOTIFY_HEADER"] and not values:
        reader.problems.append(f"{where('NOTIFY_HEADER')} is set, and {where('NOTIFY_HEADER_VALUE')} is missing")
    if values and not texts["NOTIFY_HEADER"]:
        reader.problems.append(f"{where('NOTIFY_HEADER_VALUE')} is set, and {where('NOTIFY_HEADER')} is missing")
    allowed = _allowed(reader, where("FORWARD_ALLOW"), texts["FORWARD_ALLOW"])
    forward_to = texts["FORWARD_TO"] or None
    if forward_to and (reason := refused_target(forward_to, allowed)):
        reader.problems.append(f"nothing can go on to {where('FORWARD_TO')}: {reason}")
    return Tenant(
        name=name,
        platform_url=reader.url(where("PLATFORM_URL"), texts["PLATFORM_URL"]),
        platform_key=reader.key(where("PLATFORM_KEY"), texts["PLATFORM_KEY"]),
        service_id=texts["SERVICE_ID"],
        service_secret=_service_secret(reader, texts, where),
        drop_in_keys=_keys(reader, where("DROP_IN_KEYS"), texts["DROP_IN_KEYS"]),
        platform_api=reader.one_of(where("PLATFORM_API"), texts["PLATFORM_API"] or "v1", ("v1", "v2")),
        rate=reader.per_second(where("RATE"), texts["RATE"]),
        resend_uncertain=reader.minutes(where("RESEND_UNCERTAIN"), texts["RESEND_UNCERTAIN"], MOST_PATIENCE),
        polls_per_minute=_polls(reader, where("POLLS_PER_MINUTE"), texts["POLLS_PER_MINUTE"] or "60"),
        campaign_url=reader.url(where("CAMPAIGN_URL"), texts["CAMPAIGN_URL"]),
        campaign_token=reader.key(where("CAMPAIGN_TOKEN"), texts["CAMPAIGN_TOKEN"]),
        zone=reader.zone(where("PLATFORM_ZONE"), texts["PLATFORM_ZONE"] or "UTC"),
        signature_secrets=secrets,
        signature_required=required,
        notify_header=reader.header_name(where("NOTIFY_HEADER"), texts["NOTIFY_HEADER"]),
        notify_header_values=values,
        forward_to=forward_to,
        forward_allow=allowed,
        failures=read_failure_notices(reader, texts, where, allowed),
    )


def _polls(reader: Reader, where: str, text: str) -> int:
    """A whole number of calls a minute."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MOST_POLLS):
        reader.problems.append(f"{where} is {text!r}: it takes a whole number from 0 to {MOST_POLLS}")
        return 0
    return int(text)


def _allowed(reader: Reader, where: str, text: str | None) -> Allowed:
    """The hosts and networks of a list with commas, or the reason why it is none."""
    try:
        return parse_allowed(text or "")
    except ValueError as error:
        reader.problems.append(f"{where}: {error}")
        return NOTHING


def _keys(reader: Reader, where: str, text: str | None) -> tuple[str, ...]:
    keys = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    for key in keys:
        reader.key(where, key)
        reader.long_enough(where, key)
    return keys


def _service_secret(reader: Reader, texts: dict[str, str | None], where: Callable[[str], str]) -> str | None:
    """The service's secret: together with its id, and never beside a key, for the platform would take the token."""
    secret = reader.base64(where("SERVICE_SECRET"), texts["SERVICE_SECRET"])
    if bool(texts["SERVICE_ID"]) != bool(texts["SERVICE_SECRET"]):
        has, lacks = ("ID", "SECRET") if texts["SERVICE_ID"] else ("SECRET", "ID")
        reader.problems.append(f"{where(f'SERVICE_{has}')} is set, and {where(f'SERVICE_{lacks}')} is missing")
    elif secret and texts["PLATFORM_KEY"]:
        pair = f"{where('SERVICE_ID')} with {where('SERVICE_SECRET')}"
        reader.problems.append(f"{where('PLATFORM_KEY')} and {pair} are both set: keep one")
    return secret


def _rotated(reader: Reader, name: str, texts: dict[str, str | None], where: Callable[[str], str]) -> tuple[str, ...]:
    """A secret and the one before it, whichever are set."""
    present, previous = texts[name], texts[f"{name}_PREVIOUS"]
    reader.long_enough(where(name), present)
    reader.long_enough(where(f"{name}_PREVIOUS"), previous)
    if previous and not present:
        reader.problems.append(f"{where(f'{name}_PREVIOUS')} is set, and {where(name)} is missing")
    return tuple(secret for secret in (present, previous) if secret)


def _tables(reader: Reader, file: str) -> dict[str, Any]:
    """The [tenant.NAME] tables of the TOML file."""
    try:
        table = tomllib.loads(Path(file).read_text())
    except OSError as error:
        reader.problems.append(f"RECEIVER_CONFIG: {file} can't be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reader.problems.append(f"RECEIVER_CONFIG: {file} is no TOML: {error}")
        return {}
    for key in table:
        if key != "tenant":
            reader.problems.append(f"{file}: {key!r} is not known there: it takes [tenant.NAME] tables")
    named = table.get("tenant", {})
    if not isinstance(named, dict):
        reader.problems.append(f"{file}: 'tenant' is no table: it takes [tenant.NAME] tables")
        return {}
    return named


def _of_table(reader: Reader, where: str, name: str, values: Any) -> Tenant:
    if not isinstance(values, dict):
        reader.problems.append(f"{where} is no table")
        return Tenant(name)
    if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 40):
        reader.problems.append(f"{where}: a tenant's name has letters, digits, - and _, 40 at most")
    texts: dict[str, str] = {}
    for key, value in values.items():
        if key not in TENANT_KEYS:
            reader.problems.append(f"{where}.{key} is not known: it takes {', '.join(TENANT_KEYS)}")
        elif key == "signature_required" and isinstance(value, bool):
            texts[key] = "yes" if value else "no"
        elif key in NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
            texts[key] = str(value)
        elif not isinstance(value, str):
            reader.problems.append(f"{where}.{key} is no text")
        else:
            texts[key] = value.strip()
    for key in (setting.name.lower() for setting in TENANT_SETTINGS if setting.secret):
        if file := texts.get(f"{key}_file"):
            if texts.get(key):
                reader.problems.append(f"{where}.{key} and {where}.{key}_file are both set: keep one")
            texts[key] = reader.secret_file(f"{where}.{key}_file", file)
    return _tenant(reader, name, lambda part: texts.get(part.lower()), lambda part: f"{where}.{part.lower()}")
