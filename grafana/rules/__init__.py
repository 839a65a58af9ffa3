"""The recording and alert rules for Prometheus, made here and written to grafana/alerts/ by grafana/build.py."""

from typing import Any

import yaml

from grafana.rules.budget import budget
from grafana.rules.clock import Clock
from grafana.rules.delivery import delivery
from grafana.rules.intake import intake
from grafana.rules.keeping import keeping
from grafana.rules.rising import rising
from grafana.rules.sending import sending
from grafana.rules.shapes import Alert, Group, Record

HEAD = """\
# Recording and alert rules of the receiver, for Prometheus 2.42 or later (rule_files). Made from grafana/rules/ by
# `python grafana/build.py`: change them there. Proven by the files *.rules.test.yml beside this one.
#
# A counter that is first scraped with a value has no increase() until its second change, so a whole burst can pass
# unseen. A series that was born inside the window counts with its value, where its process was scraped before:
#     x unless x offset W and count_over_time(x[W]) < (scrapes of its process in W)   or   increase(x[W])
"""
SHORTEST = 8.0


def groups(scale: float = 1.0, floor_seconds: float | None = None) -> tuple[Group, ...]:
    """All groups with every time divided by `scale`, and no range shorter than `floor_seconds`.

    A range must hold some scrapes; unless told, the floor is 8 seconds for a scale that is not 1.
    """
    if floor_seconds is None:
        floor_seconds = 0.0 if scale == 1 else SHORTEST
    clock = Clock(scale, floor_seconds)
    return tuple(make(clock) for make in (delivery, rising, budget, intake, sending, keeping))


def rules(scale: float = 1.0, floor_seconds: float | None = None) -> dict[str, Any]:
    """The file of rules as a document; its numbers as in `groups`."""
    return {"groups": [group.document() for group in groups(scale, floor_seconds)]}


def recorded() -> dict[str, frozenset[str]]:
    """The labels of every recorded series by its name."""
    return {rule.name: rule.labels for group in groups() for rule in group.rules if isinstance(rule, Record)}


def text(scale: float = 1.0, floor_seconds: float | None = None) -> str:
    """The file of rules as it is written, with the cause of each as a comment."""
    lines = [HEAD + "groups:"]
    for group in groups(scale, floor_seconds):
        lines.append(f"  - name: {group.name}\n    rules:")
        for rule in group.rules:
            if isinstance(rule, Alert) and rule.why:
                lines += [f"      # {line}" for line in rule.why.strip().splitlines()]
            lines.append(_indented(rule.document()))
    return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    pass


def _block(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _block)


def _indented(document: dict[str, Any]) -> str:
    made = yaml.dump([document], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join(f"      {line}" if line else line for line in made.rstrip("\n").splitlines())
