"""Counting breaks nothing: what is counted is durable already, and whoever waits for it is to be told so."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

log = logging.getLogger("receiver.metrics")

P = ParamSpec("P")
_told: set[tuple[str, str]] = set()


def harmless(count: Callable[P, None]) -> Callable[P, None]:
    """The same, but that it raises nothing: a fault of it is logged, the first of a kind."""

    @functools.wraps(count)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception as error:
            what, reason = count.__qualname__, type(error).__name__
            if (what, reason) not in _told:
                _told.add((what, reason))
                log.exception("not_counted", extra={"what": what, "reason": reason})

    return guarded
