"""Reading a Webex Campaign event: its mandatory fields, and the limits of its parameters."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from receiver.sandbox.answers import CampaignCode, Refused

PARAMS_MAX: Final = 400
PARAMS_BYTES_MAX: Final = 24 * 1024


@dataclass(frozen=True, slots=True)
class CampaignEvent:
    """An event that was found good."""

    event_id: str
    event_key: str
    """The recipient: e-mail, number, device id or customer id."""


def read(body: bytes) -> CampaignEvent:
    """What `body` asks for; raises Refused with Webex Campaign's codes."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(CampaignCode.INVALID_JSON) from None
    if not isinstance(raw, dict):
        raise Refused(CampaignCode.INVALID_JSON)
    event_id, event_key = (_text(raw, name) for name in ("event-id", "event-key"))
    _check_params(raw.get("event-params", {}))
    return CampaignEvent(event_id, event_key)


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if value in (None, ""):
        raise Refused(CampaignCode.MANDATORY_MISSING, name)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise Refused(CampaignCode.INVALID_JSON, name)
    return str(value)


def _check_params(params: object) -> None:
    if not isinstance(params, dict):
        raise Refused(CampaignCode.INVALID_JSON, "event-params")
    if len(params) > PARAMS_MAX:
        raise Refused(CampaignCode.INVALID_JSON, f"event-params: over {PARAMS_MAX}")
    if len(msgspec.json.encode(params)) > PARAMS_BYTES_MAX:
        raise Refused(CampaignCode.INVALID_JSON, f"event-params: over {PARAMS_BYTES_MAX} bytes")
    if _holds_null(params):
        raise Refused(CampaignCode.INVALID_JSON, "event-params: a null")


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_null(one) for one in value.values())
    if isinstance(value, list):
        return any(_holds_null(one) for one in value)
    return value is None or value in ("NULL", "null")
