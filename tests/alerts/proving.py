"""What is proven of a healthy service, and of each trouble."""

import time
from typing import Final

from tests.alerts.stack import Stack, now
from tests.alerts.troubles import Trouble

HEALTHY_SECONDS: Final = 20.0


def stays_silent(running: Stack) -> None:
    """Nobody is told anything for a while of healthy traffic."""
    running.wait_until_quiet()  # a slow start may have had something pending
    began = now()
    time.sleep(HEALTHY_SECONDS)  # what must not come can't be waited for
    assert running.pager.told == [], running.story(began)
    assert running.traffic.answers[202] > HEALTHY_SECONDS, running.traffic.answers


def tells_of(trouble: Trouble, running: Stack) -> None:
    """The alert reaches the pager in time while the trouble lasts, its end does afterwards, and nothing else ever."""
    running.wait_until_quiet()
    began = now()
    with trouble.make(running):
        notice = running.wait_for("firing", trouble.alert, trouble.labels, began)
        time.sleep(max(0.0, began + trouble.lasts - now()))
    ended = now()
    resolved = running.wait_for("resolved", trouble.alert, trouble.labels, ended)
    running.wait_until_quiet()
    print(f"{trouble.alert}: told after {notice.at - began:.0f} s, resolved {resolved.at - ended:.0f} s after the end")
    strangers = [one for one in running.pager.since(began) if not one.is_about(trouble.alert, trouble.labels)]
    assert not strangers, running.story(began)
    assert notice.labels["severity"] == trouble.severity
    assert notice.receiver == trouble.reaches
    assert "<no value>" not in str(notice.annotations), notice.annotations
