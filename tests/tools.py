"""Programs that pip can't bring: skipped where they are missing, demanded where CI is set."""

import os
import shutil

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "wrk": "wrk",
}


def need(program: str) -> str:
    """The path of `program`; skips the test with the line that installs it, or fails it under CI."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return path
    reason = f"{program} is missing: `make tools` (or `apt-get install {PACKAGES[program]}`) installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
