"""Logs: one JSON line an event where nobody watches, a readable line at a terminal. Never a phone number at info."""

import json
import logging
import math
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from receiver import metrics
from receiver.web import LOGGED, request_id

log = logging.getLogger("receiver.process")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# They log whole addresses at info: a notifyurl holds a token.
QUIET = ("httpx2", "httpcore2", "asyncio", "uvicorn.access", "alembic", "sqlalchemy")


OURS = "receiver"  # all loggers of ours are below it
LIBRARY = "library"  # the event of everything that others log: their words are no names
LONGEST_TEXT = 2_000  # characters of what others say
QUIET_SECONDS = 60.0  # before the server's own words are told again
# After these the loop shows the task or the arguments it stumbled over, and in them what was told or sent.
_LOOPS_OBJECTS = re.compile(r"[(<].*", re.DOTALL)


def _event(record: logging.LogRecord) -> str:
    """The name of the event: what others log has one name, and its words in a field."""
    return _said(record) if record.name.split(".")[0] == OURS else LIBRARY


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().strip()
    except (TypeError, ValueError, KeyError):  # the values do not fit the text: logging would shout both
        return str(record.msg)


class _Formatter(logging.Formatter):
    """What both forms share. The words of an error stay out but for `words`: they may quote a body."""

    def __init__(self, *, words: bool = False) -> None:
        super().__init__()
        self._words = words

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """All that the line holds beside its time, level and event."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if identity := request_id.get():
            fields["request_id"] = identity
        if _event(record) == LIBRARY:
            fields["text"] = self._text(record)
        return fields

    def _text(self, record: logging.LogRecord) -> str:
        """What others say: their first line, for in those below they show errors and what these were about."""
        text = _said(record)
        if self._words:
            return text
        if record.name == "asyncio":
            text = _LOOPS_OBJECTS.sub("", text)
        return text.partition("\n")[0][:LONGEST_TEXT].strip()

    def told(self, error: BaseException) -> str:
        """The traceback of `error`, and of what it came from."""
        if self._words:
            return "".join(traceback.format_exception(error)).rstrip()
        parts, seen = list[str](), set[int]()
        one: BaseException | None = error
        while one is not None and id(one) not in seen:
            seen.add(id(one))
            lines = traceback.format_tb(one.__traceback__)
            parts.append("".join(["Traceback (most recent call last):\n", *lines, type(one).__qualname__]))
            one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        return "\n\n".join(reversed(parts))


class JsonFormatter(_Formatter):
    """One event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
            **self.fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            event["traceback"] = self.told(record.exc_info[1])
        return json.dumps(event, default=str)  # ASCII: one line in every encoding, and whatever ends a line elsewhere


class PrettyFormatter(_Formatter):
    """One event for the eyes."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = " ".join(f"{key}={_shown(value)}" for key, value in self.fields(record).items())
        text = f"{at} {record.levelname.lower():7} {_event(record)} {fields}".rstrip()
        return f"{text}\n{self.told(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else text


def _shown(value: object) -> str:
    """A value for the eyes: what would move the cursor or begin a line is escaped."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class Counting(logging.Handler):
    """Counts what is logged at warning or above.

    The counters are at hand: to look one up takes a lock, and the collector may make somebody log who holds it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        warning, error, critical = (metrics.LOG_EVENTS.labels(level) for level in ("warning", "error", "critical"))
        self._levels = ((logging.CRITICAL, critical), (logging.ERROR, error), (logging.WARNING, warning))

    def emit(self, record: logging.LogRecord) -> None:
        for least, counter in self._levels:  # a library may have levels of its own between them
            if record.levelno >= least:
                counter.inc()
                return


def set_up(level: str) -> None:
    """Sends all logs to standard error in the form that fits it."""
    handler = logging.StreamHandler(sys.stderr)
    form = PrettyFormatter if sys.stderr.isatty() else JsonFormatter
    handler.setFormatter(form(words=level == "debug"))
    root = logging.getLogger()
    root.handlers[:] = [handler, Counting()]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A pool that finds no database logs a traceback a second; our own events say it once.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(News())
    logging.captureWarnings(True)
    sys.excepthook = _died
    sys.unraisablehook = _ignored
    threading.excepthook = lambda died: _died(died.exc_type, died.exc_value, died.exc_traceback)


class News(logging.Filter):
    """What the server says that nobody has logged, and that it has not said within a minute.

    The fault of a door has been logged, with the id of its request. Of what is no HTTP any stranger can send plenty.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said: dict[str, tuple[float, int]] = {}  # the server has a dozen texts

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            return not getattr(record.exc_info[1], LOGGED, False)
        text, now = str(record.msg), self._now()
        at, since = self._said.get(text, (-math.inf, 0))
        if now - at < QUIET_SECONDS:
            self._said[text] = at, since + 1
            return False
        self._said[text] = now, 0
        if since:
            record.not_told = since
        return True


def _died(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> None:
    """What nobody caught: in the same form as everything else."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.critical("died", extra={"reason": kind.__name__}, exc_info=error)


def _ignored(fault: "sys.UnraisableHookArgs") -> None:
    """What went wrong where Python can't raise it, such as while something is thrown away."""
    log.error("fault_ignored", extra={"reason": fault.exc_type.__name__}, exc_info=fault.exc_value)
