"""Logs: one JSON line an event where nobody watches, a readable line at a terminal. Never a phone number at info."""

import json
import logging
import sys
import threading
import traceback
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


def _event(record: logging.LogRecord) -> str:
    """The name of the event: what others log has one name, and its words in a field."""
    return record.getMessage() if record.name.split(".")[0] == OURS else LIBRARY


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if identity := request_id.get():
        fields["request_id"] = identity
    if _event(record) == LIBRARY:
        fields["text"] = record.getMessage().strip()
    return fields


class _Formatter(logging.Formatter):
    """What both forms share. The words of an error stay out of a traceback but for `words`: they may quote a body."""

    def __init__(self, *, words: bool = False) -> None:
        super().__init__()
        self._words = words

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
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            event["traceback"] = self.told(record.exc_info[1])
        return json.dumps(event, default=str, ensure_ascii=False)


class PrettyFormatter(_Formatter):
    """One event for the eyes."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        text = f"{at} {record.levelname.lower():7} {_event(record)} {fields}".rstrip()
        return f"{text}\n{self.told(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else text


class Counting(logging.Handler):
    """Counts what is logged at warning or above.

    The counters are at hand: to look one up takes a lock, and the collector may make somebody log who holds it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._levels = {level: metrics.LOG_EVENTS.labels(level) for level in ("warning", "error", "critical")}

    def emit(self, record: logging.LogRecord) -> None:
        self._levels[record.levelname.lower()].inc()


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
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = lambda died: _died(died.exc_type, died.exc_value, died.exc_traceback)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nobody has logged it: the fault of a door has been, with the id of its request."""
    return not (record.exc_info and getattr(record.exc_info[1], LOGGED, False))


def _died(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> None:
    """What nobody caught: in the same form as everything else."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.critical("died", extra={"reason": kind.__name__}, exc_info=error)
