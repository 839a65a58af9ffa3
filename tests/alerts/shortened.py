"""The shipped rules and the shipped Alertmanager configuration in short times: all else is as it is shipped."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from grafana.queries import FOLDER
from grafana.rules import rules

ALERTMANAGER: Final = FOLDER / "alertmanager" / "alertmanager.yml"
SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
TIMERS: Final = ("group_wait", "group_interval", "repeat_interval")


def write_rules(file: Path, scale: float) -> None:
    """The rules with all times divided by `scale`."""
    file.write_text(yaml.safe_dump(rules(scale=scale), sort_keys=False, width=1000))


def write_alertmanager(file: Path, scale: float, pager_url: str) -> None:
    """The example with its timers divided by `scale`, and one pager in place of every receiver's own address."""
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    hook = {"url": pager_url, "send_resolved": True}
    config["receivers"] = [{"name": one["name"], "webhook_configs": [hook]} for one in config["receivers"]]
    _shorten(config["route"], scale)
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def _shorten(route: dict[str, Any], scale: float) -> None:
    for timer in TIMERS:
        if timer in route:
            route[timer] = f"{max(1, round(seconds(route[timer]) / scale * 1000))}ms"
    for below in route.get("routes", ()):
        _shorten(below, scale)


def seconds(duration: str) -> float:
    """What Prometheus means by `1h30m`."""
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration))
