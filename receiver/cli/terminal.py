"""Being the one whom Ctrl-C means, also under make.

A terminal sends Ctrl-C to its whole foreground group. make is in it, and dies of the signal although what it started
ends well: `make run` would always fail. So the demo takes the foreground for a group of its own and gives it back.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Holds the terminal's foreground alone while the block runs; does nothing without a terminal, or without make."""
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty():
        yield
        return
    terminal, before = sys.stdin.fileno(), os.getpgrp()
    if os.tcgetpgrp(terminal) != before:
        yield
        return
    # Ctrl-Z would stop us and not make: the terminal would hang with nobody to wake us.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # taking and giving back is done from the background
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, before)
