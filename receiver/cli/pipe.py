"""What a command does that prints into a pipe, and has nothing to print for long."""

import os
import select
import stat
import sys
import threading


def end_with_the_pipe() -> None:
    """From now on the process ends, quietly, when nobody reads any more what it prints."""
    try:
        out = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(out).st_mode)
    except (OSError, ValueError):  # closed, or no file
        return

    def watch() -> None:
        poll = select.poll()
        poll.register(out, 0)  # a reader who has gone is an error, and errors are always told
        poll.poll()
        os._exit(0)

    if is_pipe:
        threading.Thread(target=watch, name="pipe", daemon=True).start()
