"""Which addresses may be spoken to: https and public ones, and what the operator allows."""

import ipaddress
from pathlib import Path

import pytest

from receiver.errors import SettingsError
from receiver.settings import read_settings
from receiver.targets import NOTHING, is_public, parse_allowed, refused_target

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    assert "not public" in (refused_target(f"https://{host}/receipts") or "")


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_good_over_https(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    assert refused_target(f"https://{host}/receipts") is None
    assert "https" in (refused_target(f"http://{host}/receipts") or "")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://127.1/", "not public"),
        ("https://2130706433/", "not public"),
        ("https://0x7f.1/", "not public"),
        ("https://0177.0.0.1/", "not public"),
        ("https://localhost/", "this machine"),
        ("https://a.LOCALHOST./", "this machine"),
        ("http://client.example/", "plain http"),
        ("https://user:secret@client.example/", "names a user"),
        ("https://client.example@127.0.0.1/", "names a user"),
        *((bad, "no address") for bad in ("", "client.example", "ftp://client.example/", "https://", "https:///x")),
        *(
            (bad, "no address")
            for bad in ("https://a b/", "https://a\n/", "https://a:0/", "https://a:99999/", "https://[/")
        ),
        ("https://a\\@b/", "no address"),
        (f"https://client.example/{'x' * 2000}", "longer"),
    ],
)
def test_what_is_no_good_address_is_refused_in_words(url: str, says: str) -> None:
    assert says in (refused_target(url) or "")


def test_an_allowed_host_may_be_private_and_over_http() -> None:
    allowed = parse_allowed("Hooks.Internal., 10.1.0.0/16, 127.0.0.1, fd00::/64")
    for url in (
        "http://hooks.internal:81/x",
        "http://10.1.2.3/",
        "https://127.0.0.1/",
        "http://127.1/",
        "http://[fd00::1]/",
    ):
        assert refused_target(url, allowed) is None, url
        assert refused_target(url, NOTHING) is not None, url
    for url in (
        "http://other.internal/",
        "http://10.2.0.1/",
        "https://10.2.0.1/",
        "https://127.0.0.2/",
        "https://[fd01::1]/",
    ):
        assert refused_target(url, allowed) is not None, url


@pytest.mark.parametrize("text", ["a b", "10.0.0.1/8", "1.2.3", "http://client", "client:80", "*.internal"])
def test_a_list_of_hosts_that_can_not_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither the name of a host nor a network"):
        parse_allowed(f"good.example, {text}")


def test_settings_take_an_address_and_name_what_is_wrong_without_showing_it(tmp_path: Path) -> None:
    base = {"RECEIVER_DATABASE_URL": "postgresql://db/x"}
    file = tmp_path / "tenants.toml"
    file.write_text('[tenant.shop]\nforward_to = "http://10.1.2.3/a-secret"\nforward_allow = "10.1.0.0/16"\n')
    good = base | {"RECEIVER_FORWARD_TO": "https://client.example/a-secret", "RECEIVER_CONFIG": str(file)}
    read = read_settings(good, serving=False)
    assert [tenant.forward_to for tenant in read.tenants] == [
        "https://client.example/a-secret",
        "http://10.1.2.3/a-secret",
    ]
    assert "a-secret" not in repr(read)
    bad = base | {"RECEIVER_FORWARD_TO": "http://client.example/a-secret", "RECEIVER_FORWARD_ALLOW": "a b"}
    with pytest.raises(SettingsError) as error:
        read_settings(bad, serving=False)
    assert "RECEIVER_FORWARD_ALLOW: 'a b'" in str(error.value)
    assert "RECEIVER_FORWARD_TO: it is plain http" in str(error.value)
    assert "a-secret" not in str(error.value)
