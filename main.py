"""The entry point: `python main.py --env local` starts everything; `--role` starts one part of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from core.config import Settings

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Role(StrEnum):
    api = "api"
    worker = "worker"
    beat = "beat"
    all = "all"


@cli.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    env: Annotated[str, typer.Option(help="Name of the environment; settings come from .env and .env.NAME")] = "local",
    role: Annotated[Role, typer.Option(help="Which part to run in this process")] = Role.all,
    modules: Annotated[str | None, typer.Option(help="`all` or a comma list (APP_MODULES)")] = None,
    host: Annotated[str, typer.Option(help="Address of the API")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API")] = 8000,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Processes of the API (1) or children of the worker (one per core)"),
    ] = None,
    queues: Annotated[str | None, typer.Option(help="Comma list of what the worker takes (all)")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where local data lies (DATA_DIR, default .data)")] = None,
) -> None:
    """Run Dossier."""
    os.environ["APP_ENV"] = env
    if modules is not None:
        os.environ["APP_MODULES"] = modules
    if data_dir is not None:
        os.environ["DATA_DIR"] = str(data_dir)
    if context.invoked_subcommand is None:
        raise typer.Exit(_guarded(lambda: _serve(role, host, port, workers, queues)))


@cli.command()
def migrate() -> None:
    """Create collections and indexes. Run it before a new version; repeating it does no harm."""

    def build() -> int:
        from app.preflight import migrated
        from core.config import load_settings

        asyncio.run(migrated(load_settings()))
        return 0

    raise typer.Exit(_guarded(build))


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""

    def show() -> int:
        from app.container import build_container
        from app.server import create_app
        from core.config import load_settings

        # Nothing connects: the addresses only have to be there.
        nowhere = {"mongo_url": "mongodb://127.0.0.1", "redis_url": "redis://127.0.0.1"}
        app = create_app(build_container(load_settings(**nowhere), "api"))
        typer.echo(json.dumps(app.openapi(), indent=1))
        return 0

    raise typer.Exit(_guarded(show))


@cli.command()
def doctor(fix: Annotated[bool, typer.Option("--fix", help="Remove what no record names")] = False) -> None:
    """Compare storage and documents; without --fix it changes nothing. Exit code 1 where something is left."""

    def examine() -> int:
        from app.container import build_container
        from app.documents.adapter.doctor import examine
        from app.preflight import require_mongo, require_storage
        from app.runtime import running
        from core.config import load_settings

        async def run() -> int:
            settings = load_settings()
            await require_mongo(settings)
            await require_storage(settings)
            async with running(build_container(settings, "worker")) as container:
                return await examine(container.documents.inspection(), fix=fix)

        return asyncio.run(run())

    raise typer.Exit(_guarded(examine))


@cli.command()
def seed(
    url: Annotated[str, typer.Option(help="The API to fill")] = "http://127.0.0.1:8000",
    email: Annotated[str, typer.Option(help="Whose the documents are; made if need be")] = "demo@example.com",
    password: Annotated[
        str | None, typer.Option(envvar="DEMO_PASSWORD", help="Theirs; in prod there is no default")
    ] = None,
    in_prod: Annotated[bool, typer.Option("--in-prod", help="Also with --env prod")] = False,
) -> None:
    """Sample data through the API: folders, documents, products, stock. Repeating it adds nothing."""

    def fill() -> int:
        from app.seed import Demo, seed
        from core.config import ConfigError, load_settings
        from core.security.local_secrets import with_local_secrets
        from core.setting_types import parts_of

        settings = with_local_secrets(load_settings())
        if settings.is_prod and not (in_prod and password):
            raise ConfigError("seed: sample data does not belong in prod; --in-prod and --password if you mean it")
        key = parts_of(settings.api_key)[0] if settings.api_key else None
        made = asyncio.run(seed(Demo(url.rstrip("/"), email, password or "correct horse", key)))
        typer.echo(json.dumps(made))
        return 0

    raise typer.Exit(_guarded(fill))


inventory = typer.Typer(help="Stock.")
cli.add_typer(inventory, name="inventory")


@inventory.command()
def verify(product: Annotated[str | None, typer.Option(help="Id of a product; all without it")] = None) -> None:
    """Compare stock, its ledger and its reservations; changes nothing. Exit code 1 where they differ."""

    def compare() -> int:
        from app.inventory.adapter.verifying import verify
        from app.preflight import require_mongo
        from core.config import load_settings

        async def run() -> int:
            settings = load_settings()
            await require_mongo(settings)
            return await verify(settings, product)

        return asyncio.run(run())

    raise typer.Exit(_guarded(compare))


def _serve(role: Role, host: str, port: int, workers: int | None, queues: str | None) -> int:
    from core.config import load_settings
    from core.logging import configure_logging

    settings = load_settings()
    _check(settings)
    if role is Role.all:
        from app.local import run_all

        if settings.mongo_url is not None:
            from app.preflight import require_mongo

            asyncio.run(require_mongo(settings))
        configure_logging("local", level=settings.log_level, fmt=_log_format())
        return run_all(load_settings(log_format=_log_format()), host=host, port=port, api_workers=workers or 1)
    if role is not Role.beat:  # which needs the broker alone, and waits for it
        from app.preflight import migrated, require_mongo

        is_own_machine = role is Role.api and settings.app_env == "local"
        asyncio.run((migrated if is_own_machine else require_mongo)(settings))
    if role is Role.api:
        return _serve_api(settings, host, port, workers or 1)
    return _serve_celery(settings, role, workers, queues)


def _check(settings: Settings) -> None:
    """What is wrong is told here, in one line, and not by each process on its own."""
    from app.documents.adapter.registry import load_processors
    from app.modules import selected
    from core.security.tokens import load_signing_keys

    selected(settings)
    load_signing_keys(settings.jwt_private_keys)
    load_processors()


def _serve_api(settings: Settings, host: str, port: int, workers: int) -> int:
    import uvicorn

    from app.container import Container
    from core.local.ports import require_free

    require_free(port, host=host)
    if settings.has_any("users"):  # said here once, and not by each of the processes
        Container(settings=settings, role="api").signing_keys()
    os.environ["WEB_CONCURRENCY"] = str(workers)  # each process grants its share of a limit while Redis is away
    with ExitStack() as stack:
        if workers > 1:  # where they keep what they count, so that any of them can tell the sum
            shared = stack.enter_context(TemporaryDirectory(prefix="dossier-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        uvicorn.run(
            "app.server:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http="core.http.protocol:PatientProtocol",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            limit_concurrency=2 * settings.max_in_flight,  # answers in bare text; ours comes first
            timeout_graceful_shutdown=25,
        )
    return 0


def _serve_celery(settings: Settings, role: Role, children: int | None, queues: str | None) -> NoReturn:
    # Celery reads it when it is imported: SIGTERM then asks for a soft shutdown.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    os.environ.setdefault("DOSSIER_SERVICE", role.value)
    from app.worker import celery_app, queue_names

    named = f"--hostname={os.environ['DOSSIER_SERVICE']}@%h"
    worker = [
        "worker",
        named,
        f"--queues={','.join(queue_names(settings, queues))}",
        "--without-gossip",
        "--without-mingle",
    ]
    if children is not None:
        worker.append(f"--concurrency={children}")
    celery_app().start(["--quiet", *(["beat", "--pidfile="] if role is Role.beat else worker)])


def _log_format() -> str:
    return os.environ.get("LOG_FORMAT") or ("console" if sys.stdout.isatty() else "json")


def _guarded(work: Callable[[], int]) -> int:
    """Runs it; what an operator can put right ends in one line per problem and a code of core/exits.py."""
    from core.config import ConfigError
    from core.errors import Unavailable
    from core.exits import BAD_SETTINGS, CANNOT_GO_ON, CannotGoOn
    from core.local.folder import LocalStackError

    code: int = BAD_SETTINGS
    lines: tuple[str, ...] = ()
    try:
        return work()
    except ConfigError as error:
        lines = error.lines
    except LocalStackError as error:
        lines = (str(error),)
    except CannotGoOn as error:
        code, lines = CANNOT_GO_ON, (str(error),)
    except Unavailable as error:  # it was there when this began
        code, lines = CANNOT_GO_ON, (f"{error.title}; bring it back and repeat this",)
    for line in lines:
        typer.echo(f"dossier: {line}", err=True)
    return code


if __name__ == "__main__":
    cli()
