"""Settings: where they come from, and that a wrong one is named but never shown."""

import base64
from pathlib import Path

import pytest

from core.config import ConfigError, load_settings

KEY32 = base64.b64encode(b"k" * 32).decode()
PROD = {
    "MONGO_URL": "mongodb://u:p@mongo/", "REDIS_URL": "redis://:p@redis/", "S3_ENDPOINT_URL": "https://s3.example.com",
    "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "zT8kq2Lw9xVb", "JWT_PRIVATE_KEYS": "/run/secrets/jwt.pem",
    "API_KEY": "N7uQ2mXe4tYb9sKfWc1vZr6p", "PRIVATE_TOKENS": "H3dLk8QwTz5nVx0yRj2cBg7m", "SCAN_SOURCE_TEMPLATE": "*",
    "SCAN_SIGNING_SECRET": "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0NTY3",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default_in_local() -> None:
    settings = load_settings("local")
    assert (settings.app_env, settings.registration_is_open, settings.docs_are_on) == ("local", True, True)


def test_the_environment_comes_before_the_named_file_before_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("JWT_ISSUER=common\nMONGO_DB=common\nS3_BUCKET=common\n")
    Path(".env.stage").write_text("MONGO_DB=stage\nS3_BUCKET=stage\n")
    monkeypatch.setenv("S3_BUCKET", "environment")
    settings = load_settings("stage")
    assert (settings.jwt_issuer, settings.mongo_db, settings.s3_bucket) == ("common", "stage", "environment")


def test_an_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_DSN", "")
    monkeypatch.setenv("MAX_UPLOAD_BYTES", "")
    settings = load_settings("local")
    assert (settings.sentry_dsn, settings.max_upload_bytes) == (None, 52_428_800)


def test_a_secret_is_read_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://:hidden@redis/\n")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    settings = load_settings("local")
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:hidden@redis/"
    assert "hidden" not in repr(settings)
    monkeypatch.setenv("MONGO_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"^MONGO_URL_FILE: cannot be read$"):
        load_settings("local")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCESS_TOKEN_TTL", "soon-secret"), ("MONGO_DB", "a secret/name"), ("SECRET_KEYS", "c2VjcmV0"),
        ("SECRET_KEYS", f"{KEY32},secret"), ("S3_ENDPOINT_URL", "http://secret@host"), ("LOG_FORMAT", "secret"),
        ("REFRESH_GRACE_SECONDS", "61"), ("PROCESSING_LEASE_SECONDS", "-7"), ("STORAGE_BACKEND", "secret"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,secret"), ("TRUSTED_PROXIES", "10.0.0.7/8"), ("RATE_LIMIT_PER_MINUTE", "-7"),
        ("MAX_IN_FLIGHT", "-7"), ("HSTS", "secret"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings("local")
    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith(f"{name}: ")
    assert value not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_prod_needs_what_is_embedded_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings("prod")
    assert {line.split(":")[0] for line in refused.value.lines} == set(PROD)
    for name, value in PROD.items():
        monkeypatch.setenv(name, value)
    settings = load_settings("prod")
    assert (settings.registration_is_open, settings.docs_are_on) == (False, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_PROXIES", "0.0.0.0/0"), ("TRUSTED_PROXIES", "10.0.0.0/8,::/0"), ("CORS_ORIGINS", "https://a.test,*"),
        ("TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1"),
    ],
)  # fmt: skip
def test_prod_refuses_what_opens_it_to_everybody(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for setting, given in {**PROD, name: value}.items():
        monkeypatch.setenv(setting, given)
    with pytest.raises(ConfigError) as refused:
        load_settings("prod")
    assert [line.split(":")[0] for line in refused.value.lines] == [name]
    assert value not in str(refused.value)


def test_prod_asks_only_for_the_keys_of_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PROD.items():
        monkeypatch.setenv(name, value)
    for name in ("PRIVATE_TOKENS", "SCAN_SIGNING_SECRET", "SCAN_SOURCE_TEMPLATE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("APP_MODULES", "products")
    assert load_settings("prod").queue_prefix == "products."


def test_services_on_one_machine_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings("local").data_dir == Path(".data")
    monkeypatch.setenv("APP_MODULES", "products")
    assert load_settings("local").data_dir == Path(".data/products")
    monkeypatch.setenv("DATA_DIR", "elsewhere")
    assert load_settings("local").data_dir == Path("elsewhere")


def test_prod_refuses_a_key_that_everybody_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "keys" / "jwt.pem"
    key.parent.mkdir(mode=0o755)
    key.touch(0o644)
    for setting, given in {**PROD, "JWT_PRIVATE_KEYS": str(key)}.items():
        monkeypatch.setenv(setting, given)
    with pytest.raises(ConfigError, match=r"^JWT_PRIVATE_KEYS: a key file can be read by every user"):
        load_settings("prod")
    key.chmod(0o640)
    load_settings("prod")
    key.chmod(0o644)
    key.parent.chmod(0o700)  # closed by its folder, as docker/make-secrets.sh does it
    load_settings("prod")


def test_roots_of_derived_keys_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEYS", f"{KEY32}, {KEY32}")
    assert load_settings("local").secret_keys is not None


@pytest.mark.parametrize("name", ["../x", "Prod", "", "a" * 40])
def test_the_name_of_an_environment_is_plain(name: str) -> None:
    if name:
        with pytest.raises(ConfigError, match="APP_ENV"):
            load_settings(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONGO_URL", "mongodb://mongo/"), ("REDIS_URL", "redis://redis/"), ("REDIS_URL", "redis://user@redis/"),
        ("BROKER_URL", "amqp://rabbit//"),
        ("AWS_SECRET_ACCESS_KEY", "minioadmin"), ("AWS_SECRET_ACCESS_KEY", "short"), ("ACCESS_TOKEN_TTL", "59"),
        ("ACCESS_TOKEN_TTL", "3601"), ("PASSWORD_MIN_LENGTH", "7"), ("API_KEY", "short-but-not-known"),
        ("PRIVATE_TOKENS", "changeme-changeme-changeme-changeme"),
        ("SCAN_CALLBACKS", '{"host": "http://host.example.com/callback"}'),
    ],
)  # fmt: skip
def test_prod_refuses_what_is_weak_and_local_does_not(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for setting, good in {**PROD, name: value}.items():
        monkeypatch.setenv(setting, good)
    with pytest.raises(ConfigError) as refused:
        load_settings("prod")
    assert [line.split(":")[0] for line in refused.value.lines] == [name]
    assert value not in str(refused.value) or len(value) < 8
    load_settings("local")
