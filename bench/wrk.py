"""The load: wrk with requests that were made before, none of them twice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

CONNECTIONS, THREADS = 64, 2

# Each thread reads a file of its own before the clock starts, and takes one after the other: all that a request costs
# here is an index. `loaded` and the processor time of `done` are the whole process's.
SCRIPT = """
local count, threads = 0, {}

function setup(thread)
  thread:set("number", count)
  count = count + 1
  threads[count] = thread
end

function init(arguments)
  made, sent, repeated = {}, 0, 0
  local file = assert(io.open(arguments[1] .. "." .. number, "rb"))
  while true do
    local size = file:read(8)
    if not size then break end
    made[#made + 1] = file:read(tonumber(size))
  end
  file:close()
  total = #made
  loaded = os.clock()
end

function request()
  if sent == total then
    repeated = 1
    wrk.thread:stop()
    return made[total]
  end
  sent = sent + 1
  return made[sent]
end

function done(summary, latency, requests)
  local sent, repeated, loaded = 0, 0, 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
    repeated = repeated + thread:get("repeated")
    loaded = math.max(loaded, thread:get("loaded"))
  end
  local errors = summary.errors
  io.write(string.format(
    '\\n{"answered": %d, "refused": %d, "sent": %d, "ran_out": %s, "seconds": %.6f, "processor": %.6f, "broken": %d,'
      .. ' "late": %d, "p50": %d}\\n',
    summary.requests, errors.status, sent, tostring(repeated > 0), summary.duration / 1e6, os.clock() - loaded,
    errors.connect + errors.read + errors.write, errors.timeout, latency:percentile(50)))
end
"""


class RanOut(Exception):
    """There were fewer requests than the server could answer in that time."""


class Load(NamedTuple):
    """What wrk did: answers (those with 200 apart), requests that it may have sent, seconds, its processor seconds."""

    answered: int
    good: int
    sent: int
    seconds: float
    processor: float
    p50: float  # milliseconds, as wrk sees it: closed loop, all connections busy

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds


def require_wrk() -> None:
    """Ends the program with 2 and one line where wrk is missing."""
    if shutil.which("wrk") is None:
        print("wrk is missing: `make tools` installs it", file=sys.stderr)
        raise SystemExit(2)


def post(path: str, body: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def write_requests(folder: Path, requests: Iterable[bytes], name: str = "requests", threads: int = THREADS) -> Path:
    """Lays requests down for `drive`, in turns for each thread: the order in which they go out is nearly theirs.

    Returns what `drive` is to be told: the name of the files without the numbers of the threads.
    """
    files = [(folder / f"{name}.{number}").open("wb") for number in range(threads)]
    turns = iter(requests)
    while block := list(islice(turns, len(files))):
        for file, request in zip(files, block, strict=False):
            file.write(b"%08d" % len(request) + request)
    for file in files:
        file.close()
    return folder / name


def drive(requests: Path, port: int, seconds: float, connections: int = CONNECTIONS, threads: int = THREADS) -> Load:
    """Sends what `write_requests` laid down, as fast as it is answered. Raises RanOut when it was not enough."""
    script = requests.with_suffix(".lua")
    script.write_text(SCRIPT)
    words: Sequence[str] = ("wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s")
    done = subprocess.run(
        [*words, "-s", str(script), f"http://127.0.0.1:{port}", "--", str(requests)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if said["ran_out"]:
        raise RanOut
    if said["broken"]:
        raise RuntimeError(f"wrk met {said['broken']} broken connections")
    good = said["answered"] - said["refused"]
    return Load(said["answered"], good, said["sent"], said["seconds"], said["processor"], said["p50"] / 1000)
