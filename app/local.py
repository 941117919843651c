"""All processes of Dossier on one machine: embedded servers where no URL is set, then our own, under supervision."""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from core.celery import DELIVERIES, DOCUMENTS, PERIODIC, PIPELINES, QUEUES
from core.config import Settings
from core.local.launch import Program
from core.local.ports import require_free
from core.local.stack import Addresses, Embedded, run_stack
from core.security.local_secrets import FILE, local_secrets

log = structlog.get_logger("local")

ROOT = Path(__file__).parent.parent
CONTROL_CHILDREN = 2
GRACE_S = 30  # API and workers finish what they hold within 25 s
WORKERS_ORDER, BEAT_ORDER, API_ORDER = 10, 20, 30  # started so, stopped in reverse


def run_all(settings: Settings, *, host: str, port: int, api_workers: int) -> int:
    """Runs until a signal says stop; the exit code. Raises LocalStackError where it cannot start."""
    require_free(port, host=host)
    embedded = Embedded(
        mongo=settings.mongo_url is None,
        redis=settings.redis_url is None,
        s3=settings.needs_storage and settings.storage_backend == "s3" and settings.s3_endpoint_url is None,
        s3_access_key="dossier",
        s3_secret_key=local_secrets(settings.data_dir)["AWS_SECRET_ACCESS_KEY"],
        s3_bucket=settings.s3_bucket,
    )
    started = time.monotonic()
    base = f"http://{host}:{port}"

    def programs(addresses: Addresses) -> list[Program]:
        env = _environment(settings, embedded, addresses)
        is_alone = not settings.has_any("documents")
        return _programs(env, is_alone=is_alone, host=host, port=port, api_workers=api_workers)

    def on_ready() -> None:
        seconds = time.monotonic() - started
        log.info("ready", url=base, seconds=round(seconds, 1))
        # For people, beside the log: stdout belongs to JSON lines.
        print(_welcome(base, settings, embedded, seconds), file=sys.stderr, flush=True)  # noqa: T201

    return run_stack(
        settings.data_dir,
        embedded=embedded,
        programs=programs,
        is_ready=lambda: _is_ready(base),
        on_ready=on_ready,
        log=log.info,
        output=sys.stdout.buffer,
    )


def _programs(env: Mapping[str, str], *, is_alone: bool, host: str, port: int, api_workers: int) -> list[Program]:
    """`is_alone`: a service without documents, which one worker is enough for."""

    def ours(name: str, order: int, *command: str) -> Program:
        return Program(
            name=name,
            command=[sys.executable, *command],
            order=order,
            env={**env, "DOSSIER_SERVICE": name},
            cwd=ROOT,
            stop_seconds=GRACE_S,
        )

    def worker(name: str, queues: Sequence[str], children: int) -> Program:
        return ours(name, WORKERS_ORDER, *main, "worker", "--queues", ",".join(queues), "--workers", str(children))

    main = ("main.py", "--env", env["APP_ENV"], "--role")
    workers = [worker("control", QUEUES if is_alone else (DELIVERIES, PERIODIC), CONTROL_CHILDREN)]
    if not is_alone:
        workers.append(worker("worker", (DOCUMENTS, PIPELINES), os.cpu_count() or 1))
    return [
        *workers,
        ours("beat", BEAT_ORDER, *main, "beat"),
        ours("api", API_ORDER, *main, "api", "--host", host, "--port", str(port), "--workers", str(api_workers)),
    ]


def _environment(settings: Settings, embedded: Embedded, addresses: Addresses) -> dict[str, str]:
    """What our processes are told; it overrides what they would read themselves."""
    env = {
        "APP_ENV": settings.app_env,
        "APP_MODULES": ",".join(settings.app_modules),
        "DATA_DIR": str(settings.data_dir.resolve()),
        "LOG_FORMAT": settings.log_format,
        # Celery reads it when it is imported: SIGTERM then asks for a soft shutdown.
        "REMAP_SIGTERM": "SIGQUIT",
        "PYTHONUNBUFFERED": "1",
    }
    if embedded.mongo:
        env["MONGO_URL"] = addresses.mongo_url
    if embedded.redis:
        env["REDIS_URL"] = addresses.redis_url
    if embedded.s3:
        env |= {
            "S3_ENDPOINT_URL": addresses.s3_endpoint_url,
            "S3_BUCKET": addresses.s3_bucket,
            "AWS_ACCESS_KEY_ID": addresses.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": addresses.s3_secret_key,
            "AWS_REGION": addresses.s3_region,
        }
    return env


def _is_ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health/ready", timeout=2) as answer:  # noqa: S310 – our own address
            return b'"ready"' in answer.read()
    except (urllib.error.URLError, OSError):
        return False


def _welcome(base: str, settings: Settings, embedded: Embedded, seconds: float) -> str:
    parts = [name for name in ("mongo", "redis", "s3") if getattr(embedded, name)]
    folder = settings.data_dir
    return f"""
  Dossier is ready after {seconds:.1f} s.

    API          {base}          (docs: {base}/docs)
    modules      {", ".join(settings.app_modules)}
    embedded     {", ".join(parts) or "nothing, all by URL"}
    data, logs   {folder}/, {folder}/logs/
    service keys {folder}/{FILE}
    stop         Ctrl-C
{_tour(base) if settings.has_any("documents") else ""}"""


def _tour(base: str) -> str:
    return f"""
  A first tour, to paste:

    field() {{ python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }}
    curl -s {base}/auth/register -H 'Content-Type: application/json' \\
         -d '{{"email":"ada@example.com","password":"correct horse"}}'
    TOKEN=$(curl -s {base}/auth/login -d 'username=ada@example.com&password=correct horse' | field access_token)
    AUTH="Authorization: Bearer $TOKEN"
    DOC=$(curl -s {base}/documents/upload -H "$AUTH" -F file=@examples/hello.pdf | field document_id)
    curl -s -X POST {base}/documents/$DOC/process -H "$AUTH"
    curl -s {base}/documents/$DOC/status -H "$AUTH"
    curl -s {base}/documents/$DOC/result -H "$AUTH"
"""
