"""Settings: from the environment, then `.env.<name>`, then `.env`; each secret also from the file NAME_FILE names."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from core import setting_types as form
from core.production import refusals


class ConfigError(Exception):
    """One or more settings are wrong; each line names a setting and never its value."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Settings(BaseSettings):
    """Everything an operator may set; `docs/configuration.md` says what each means."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    app_env: str = Field(
        default="local",
        description="name of the environment: `local`, `prod` or your own; `--env` sets it, an `.env` file cannot",
    )
    app_modules: form.CommaList = Field(
        default=("all",), description="`all`, or a comma list of the modules that this process has"
    )
    data_dir: Path = Field(
        default=Path(".data"),
        description="folder of local data: embedded servers, generated keys, beat's schedule; "
        "a service of its own has a folder in it",
    )

    mongo_url: form.MongoUrl = Field(
        default=None, description="MongoDB's connection string; required in prod, with credentials"
    )
    mongo_db: str = Field(
        default="dossier",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,37}$",
        description="prefix of the databases, one per module: `<MONGO_DB>_<module>`",
    )
    redis_url: form.RedisUrl = Field(
        default=None, description="Redis' address: cache and limits; required in prod, with credentials"
    )
    broker_url: form.BrokerUrl = Field(
        default=None,
        description="where Celery's messages go, such as `amqp://…` for RabbitMQ; in prod with credentials",
    )
    wake_ups_queue_url: form.HttpUrl = Field(
        default=None, description="queue of SQS that wakes workers in place of Celery, where they are Lambda functions"
    )
    cache_ttl_seconds: int = Field(
        default=30, ge=0, le=3600, description="0–3600: how long Redis may answer for MongoDB; 0 = no cache"
    )
    storage_backend: Literal["s3", "local"] = Field(
        default="s3", description="where documents lie: `s3`, or `local` for files in a folder"
    )
    storage_local_path: Path | None = Field(default=None, description="where `local` keeps its files")
    s3_endpoint_url: form.HttpUrl = Field(
        default=None, description="where the application reaches S3; required in prod"
    )
    s3_public_endpoint_url: form.HttpUrl = Field(
        default=None, description="what presigned URLs carry, when clients reach S3 elsewhere"
    )
    s3_bucket: str = Field(default="dossier", description="bucket of our own objects")
    aws_access_key_id: str | None = Field(default=None, description="who we are to S3; required in prod")
    aws_secret_access_key: SecretStr | None = Field(
        default=None, description="the secret that goes with it; required in prod"
    )
    aws_session_token: SecretStr | None = Field(
        default=None, description="the third part of credentials that are temporary, such as those of a Lambda function"
    )
    aws_region: str = Field(default="us-east-1", description="region of the bucket")

    registration_open: bool | None = Field(default=None, description="whether `POST /auth/register` is open")
    access_token_ttl: int = Field(default=600, gt=0, description="seconds that an access token lives")
    refresh_token_ttl: int = Field(
        default=604_800, gt=0, description="seconds that a refresh token lives; also the idle life of a session"
    )
    refresh_grace_seconds: int = Field(
        default=10, ge=0, le=60, description="0–60: how long the previous refresh token still gets the same successor"
    )
    session_max_ttl: int = Field(default=2_592_000, gt=0, description="seconds; absolute life of a session")
    jwt_private_keys: form.CommaList = Field(
        default=(), description="files of P-256 keys in PEM, comma list: the first signs, all verify; required in prod"
    )
    jwt_issuer: str = Field(default="dossier", description="`iss` of the tokens")
    secret_keys: form.Roots = Field(
        default=None,
        description="roots of all derived keys, comma list of base64 of 32 bytes: the first writes, all read",
    )
    password_min_length: int = Field(default=8, ge=1, le=1024, description="characters that a password must have")
    password_hash_concurrency: int = Field(
        default=min(4, os.cpu_count() or 1), ge=1, description="passwords hashed at a time in one process"
    )

    rate_limit_per_minute: int = Field(
        default=6000, ge=0, description="requests of one principal; 0 = no limits, not on sign-in either"
    )
    web_concurrency: int = Field(
        default=1,
        ge=1,
        description="processes of the API, which share the limits while Redis is away; `--workers` sets it",
    )
    max_upload_bytes: int = Field(default=52_428_800, ge=1, description="bytes of one uploaded file")
    upload_concurrency: int = Field(
        default=8, ge=1, description="uploads read at a time in one process; further ones wait unread"
    )
    upload_wait_seconds: float = Field(
        default=60, ge=0, description="how long such an upload waits before 503 `overloaded`"
    )
    max_in_flight: int = Field(
        default=2048, ge=1, description="requests at a time in one process, further ones get 503 `overloaded`"
    )
    trusted_proxies: form.Networks = Field(
        default=(), description="networks (CIDR, comma list) of the proxies whose `X-Forwarded-For` counts"
    )
    allowed_hosts: form.CommaList = Field(
        default=(), description="names under which the API is called (`Host`), comma list; empty = any"
    )
    hsts: bool = Field(default=False, description="send `Strict-Transport-Security`: TLS is in front, for good")
    cors_origins: form.CommaList = Field(default=(), description="origins of browser applications, exact, comma list")
    docs_enabled: bool | None = Field(
        default=None, description="whether `/docs`, `/redoc` and `/openapi.json` are there"
    )

    api_key: form.Keys = Field(
        default=None, description="keys that products, inventory and `/webhooks` accept, comma list while rotating"
    )
    products_url: form.HttpUrl = Field(
        default=None, description="where inventory asks when products is another process"
    )
    products_api_key: form.Keys = Field(default=None, description="what it sends there; `current,next` while rotating")

    private_tokens: form.Keys = Field(
        default=None, description="tokens that `/scans` and `/callbacks/scans` accept, comma list while rotating"
    )
    scans_url: form.HttpUrl = Field(default=None, description="where folders order scans, when that is another process")
    scans_private_token: form.Keys = Field(default=None, description="with what; required with `SCANS_URL`")
    scan_callbacks: form.NamedUrls = Field(
        default={}, description="where scans may report to: a JSON object of names and URLs"
    )
    scan_signing_secret: form.SigningSecrets = Field(
        default=None, description="signs orders and callbacks of scans: `whsec_…`, comma list while rotating"
    )
    scan_allowed_buckets: form.CommaList = Field(
        default=(), description="buckets that a folder's source may name, comma list"
    )
    scan_source_template: str | None = Field(
        default=None,
        description="prefix that confines a person's sources, with `{user_id}`; `*` = no confinement; set in prod",
    )
    egress_allowed_origins: form.Origins = Field(
        default=(),
        description="private origins that webhooks and callbacks may reach, exact `scheme://host:port`, comma list",
    )
    webhook_retry_schedule: form.Schedule = Field(
        default=(0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="seconds before each attempt to deliver, ± 20 %; callbacks of scans use it cut at 24 hours",
    )

    processing_lease_seconds: float = Field(
        default=30, gt=0, description="after this long without a sign of life a run is taken from its worker"
    )
    reconcile_interval_seconds: float = Field(
        default=10, gt=0, description="how often lost wake-ups and dead runs are looked for"
    )
    sentry_dsn: SecretStr | None = Field(
        default=None, description="where unexpected errors are reported; off when empty"
    )
    otel_exporter_otlp_endpoint: form.HttpUrl = Field(
        default=None, description="base URL of an OTLP/HTTP collector that gets our spans; off when empty"
    )
    otel_traces_sampler_arg: float = Field(
        default=1, ge=0, le=1, description="0–1: share of the traces that begin here; others are sampled as they say"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="`debug`, `info`, `warning` or `error`"
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` or `console`; `main.py` takes `console` when stdout is a terminal"
    )

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _has_exporter(cls, value: str | None) -> str | None:
        try:
            is_there = value is None or find_spec("opentelemetry.exporter.otlp.proto.http") is not None
        except ModuleNotFoundError:
            is_there = False
        if not is_there:
            raise ValueError("needs `pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`")
        return value

    @model_validator(mode="after")
    def _lives(self) -> "Settings":
        if self.refresh_token_ttl > self.session_max_ttl:
            raise ValueError("REFRESH_TOKEN_TTL must not exceed SESSION_MAX_TTL")
        return self

    @property
    def is_prod(self) -> bool:
        return self.app_env == "prod"

    def has_any(self, *modules: str) -> bool:
        """Whether one of them is in this process."""
        return not {"all", *modules}.isdisjoint(self.app_modules)

    @property
    def needs_storage(self) -> bool:
        return self.has_any("documents", "scans")

    @property
    def queue_prefix(self) -> str:
        """Services that share a broker must not take each other's messages; the one with documents needs no prefix."""
        return "" if self.has_any("documents") else "-".join(sorted(self.app_modules)) + "."

    @property
    def clients_per_network(self) -> int:
        """How much wider limits of networks are; on one's own machine everybody is 127.0.0.1."""
        return 100 if self.app_env == "local" else 1

    @property
    def registration_is_open(self) -> bool:
        return not self.is_prod if self.registration_open is None else self.registration_open

    @property
    def docs_are_on(self) -> bool:
        return not self.is_prod if self.docs_enabled is None else self.docs_enabled

    @property
    def storage_path(self) -> Path:
        return self.storage_local_path or self.data_dir / "files"

    @property
    def source_buckets(self) -> tuple[str, ...]:
        return self.scan_allowed_buckets or (self.s3_bucket,)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings


def load_settings(env: str | None = None, **overrides: object) -> Settings:
    """Settings of one environment. Raises ConfigError with one line per problem."""
    name = env or os.environ.get("APP_ENV") or "local"
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
        raise ConfigError("APP_ENV: must be a short lower-case name such as local or prod")
    values = {**_secrets_from_files(os.environ), **overrides, "app_env": name}
    try:
        settings = Settings(_env_file=(".env", f".env.{name}"), **values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError(*(_line(problem) for problem in error.errors(include_input=False))) from None
    if settings.queue_prefix and "data_dir" not in settings.model_fields_set:  # several services, one machine
        settings = settings.model_copy(update={"data_dir": settings.data_dir / settings.queue_prefix.rstrip(".")})
    problems = refusals(settings) if settings.is_prod else []
    if problems:
        raise ConfigError(*problems)
    return settings


def _line(problem: Any) -> str:
    name = str(problem["loc"][0]).upper() if problem["loc"] else "settings"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"


def _secrets_from_files(environ: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for name, field in Settings.model_fields.items():
        path = environ.get(f"{name.upper()}_FILE")
        if path is None or SecretStr not in getattr(field.annotation, "__args__", (field.annotation,)):
            continue
        try:
            values[name] = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise ConfigError(f"{name.upper()}_FILE: cannot be read") from cause
    return values
