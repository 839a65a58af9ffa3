"""The end of a certificate is read as OpenSSL reads it, and nothing else is taken for one."""

import ssl
import subprocess
from pathlib import Path

import pytest

from receiver.probe.certificate import not_after
from tests.probe.servers import made
from tests.tools import need


def der_of(cert: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(cert.read_text())


@pytest.mark.parametrize("days", [-1, 30, 40 * 365])
def test_the_end_is_the_one_that_openssl_reads(tmp_path: Path, days: int) -> None:
    cert, _ = made(tmp_path, days=days)
    shown = subprocess.run(
        [need("openssl"), "x509", "-in", str(cert), "-noout", "-enddate"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert not_after(der_of(cert)).timestamp() == ssl.cert_time_to_seconds(shown.removeprefix("notAfter="))


def test_what_is_no_certificate_is_a_value_error(tmp_path: Path) -> None:
    der = der_of(made(tmp_path)[0])
    for junk in (b"", b"\x30", b"no certificate at all", der[:40], der[:5] + bytes(200)):
        with pytest.raises(ValueError):
            not_after(junk)


def test_no_cut_or_changed_certificate_breaks_the_reader(tmp_path: Path) -> None:
    der = der_of(made(tmp_path)[0])
    for at in range(len(der)):
        for broken in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            try:
                assert not_after(broken).tzinfo is not None
            except ValueError:
                pass
