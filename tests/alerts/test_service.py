"""Troubles that bring all work to a stand: exactly the right alert reaches the right people in time, and resolves."""

import pytest

from tests.alerts import troubles
from tests.alerts.proving import stays_silent, tells_of
from tests.alerts.stack import Stack
from tests.alerts.troubles import Trouble


def test_nobody_is_told_of_a_healthy_service(running: Stack) -> None:
    stays_silent(running)


@pytest.mark.parametrize("trouble", troubles.OF_THE_SERVICE, ids=str)
def test_exactly_the_right_alert_comes_and_resolves_when(trouble: Trouble, running: Stack) -> None:
    tells_of(trouble, running)
