"""Forms of settings: what is read, and that what is malformed is named in one line and never shown."""

import base64
from pathlib import Path

import pytest

from core.config import ConfigError, load_settings
from core.setting_types import parts_of


def secret_of(length: int) -> str:
    return "whsec_" + base64.b64encode(b"q" * length).decode()


def root_of(length: int) -> str:
    return base64.b64encode(b"q" * length).decode()


MALFORMED = {
    ("API_KEY", "PRIVATE_TOKENS", "PRODUCTS_API_KEY", "SCANS_PRIVATE_TOKEN"): [
        "zz,", ",zz", "zz,,zz", "zz zz", "zz\tzz", "zzключ", "zz\x7f", "z" * 513, f"zz,{'z' * 513}",
    ],
    ("SCAN_SIGNING_SECRET",): [
        "zzzz", root_of(32), f"whsec-{root_of(32)}", "whsec_zz", secret_of(23), secret_of(65),
        f"{secret_of(32)},", f"{secret_of(32)},zzzz", secret_of(24).replace("_", "_!"), secret_of(25).rstrip("="),
        "WHSEC_" + root_of(32), "whsec_whsec_" + root_of(32),
    ],
    ("SECRET_KEYS",): ["zzzz", root_of(31), root_of(33), f"{root_of(32)},", root_of(32).rstrip("="), "zz" + "é" * 40],
    ("S3_ENDPOINT_URL", "S3_PUBLIC_ENDPOINT_URL", "PRODUCTS_URL", "SCANS_URL"): [
        "zz.example.com", "ftp://zz.example.com", "http://", "https:///zz", "http://zz@host",
        "http://u:zz@host",  # pragma: allowlist secret
        "http://:zz@host", "http://host/?zz", "http://host/#zz", "http://zz:0", "http://zz:99999x", "http://[zz",
    ],
    ("SCAN_CALLBACKS",): [
        "zz", "[]", '"zz"', "1", '{"zz":1}', '{"zz":null}', '{"a":"zz"}', '{"a":"ftp://zz"}', '{"a":"http://zz@h"}',
        '{"a":"http://h/?zz"}', '{"a":["http://zz"]}', '{"a":"http://zz"', '{"a":"http://[zz"}',
    ],
    ("EGRESS_ALLOWED_ORIGINS",): [
        "http://u:zz@h:80",  # pragma: allowlist secret
        "zz", "http://zz", "http://zz:80/path", "http://zz:80,", "http://*.zz:80", "ftp://zz:21",
        "http://169.254.169.254:80", "http://zz:0", "http://zz:65536", "http://zz:8x",
    ],
    ("TRUSTED_PROXIES",): ["zz", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "10.0.0.0/8;zz"],
    ("WEBHOOK_RETRY_SCHEDULE",): ["zz", "0,zz", "-77", "0,-77", "604801", "nan", "inf", "0,,77", "1e99"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for names, values in MALFORMED.items() for name in names for value in values]
)
def test_a_malformed_value_is_refused_in_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings("local")
    assert len(refused.value.lines) == 1
    line = refused.value.lines[0]
    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    assert value not in line.removeprefix(f"{name}: ")
    assert "zz" not in line


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("EGRESS_ALLOWED_ORIGINS", "http://10.0.0.7:8080, https://h:443", ("http://10.0.0.7:8080", "https://h:443")),
        ("WEBHOOK_RETRY_SCHEDULE", "0, 1.5,604800", (0.0, 1.5, 604800.0)),
        ("SCAN_CALLBACKS", '{"a":"http://h:1/x"}', {"a": "http://h:1/x"}),
        ("SCANS_URL", "http://h:1/", "http://h:1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
    ],
)
def test_a_value_is_read(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load_settings("local"), name.lower()) == read


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("API_KEY", ("old!~", "k" * 512)), ("SCAN_SIGNING_SECRET", (secret_of(24), secret_of(64))),
        ("SECRET_KEYS", (root_of(32), root_of(32))),
    ],
)  # fmt: skip
def test_a_secret_list_is_read_part_by_part(monkeypatch: pytest.MonkeyPatch, name: str, parts: tuple[str, ...]) -> None:
    monkeypatch.setenv(name, " , ".join(parts))
    settings = load_settings("local")
    assert parts_of(getattr(settings, name.lower())) == parts
    assert not any(part in repr(settings) for part in parts)
