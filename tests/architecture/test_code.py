"""Rules of the house that a reader should be able to rely on."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dependency_injector import providers
from fastapi.routing import APIRoute
from pydantic import SecretStr

from app.container import Container, build_container
from app.modules import MODULES
from app.server import create_app
from core.config import Settings
from core.http.problems import STATUS
from core.http.routes import StrictRoute

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("app", "core") for path in (ROOT / folder).rglob("*.py"))

# Answers that no model describes: bytes, redirects, metrics.
WITHOUT_MODEL = {
    "/documents/{document_id}/content", "/documents/{document_id}/result/text", "/documents/{document_id}/thumbnail",
    "/metrics", "/",
}  # fmt: skip


@pytest.fixture
async def container(tmp_path: Path, signing_key: Path) -> Container:
    settings = Settings(
        data_dir=tmp_path,
        mongo_url=SecretStr("mongodb://127.0.0.1:1"),
        redis_url=SecretStr("redis://127.0.0.1:1"),
        jwt_private_keys=(str(signing_key),),
    )
    return build_container(settings, "api")


def test_imports_keep_to_the_contracts() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


async def test_every_provider_of_every_container_builds(container: Container) -> None:
    def build(holder: object) -> Iterator[str]:
        for name, provider in holder.providers.items():  # type: ignore[attr-defined]
            if isinstance(provider, providers.Container):
                yield from build(provider)
            elif not isinstance(provider, providers.Self):
                provider()
                yield name

    built = list(build(container))
    assert {"library", "processing", "attempts", "accounts", "sign_in", "service", "celery"} <= set(built)


async def test_every_route_says_who_may_call_it_and_what_it_answers(container: Container) -> None:
    app = create_app(container)
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 20
    for route in routes:
        assert isinstance(route, StrictRoute)
        assert route.openapi_extra is not None
        assert "security" in route.openapi_extra
        if route.path not in WITHOUT_MODEL and route.status_code != 204:
            assert route.response_model is not None, route.path
        sync = [call for call in _calls(route.dependant) if not _is_async(call)]
        assert sync == [], route.path  # each would cost a thread hop


async def test_the_application_registers_no_slow_middleware(container: Container) -> None:
    names = [middleware.cls.__name__ for middleware in create_app(container).user_middleware]  # type: ignore[attr-defined]
    assert names == ["RequestContext", "Ingress"]


def test_the_api_loads_no_parser_no_task_and_no_error_reporter() -> None:
    code = "import sys, app.server; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    for module in ("pypdfium2", "PIL", "py3langid", "numpy", "sentry_sdk", "supervisor", "app.documents.adapter.tasks"):
        assert module not in loaded


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_have_the_parts_that_a_reader_looks_for(module: str) -> None:
    folder = ROOT / "app" / module
    for part in ("container.py", "domain/errors.py", "domain/ports.py", "adapter/api.py", "adapter/mongo.py"):
        assert (folder / part).exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_explains_itself(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    assert not text or ast.get_docstring(ast.parse(text)), "a module starts with what it is for"


def test_records_are_changed_by_conditional_updates_only() -> None:
    """Beanie's save and replace overwrite concurrent changes and bring deleted records back."""
    forbidden = {"save", "save_changes", "replace_one", "find_one_and_replace", "ReplaceOne"}
    for path in (path for path in SOURCES if path.stem.startswith("mongo")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                assert name not in forbidden, f"{path}:{node.lineno}"


def test_every_category_of_error_has_a_status() -> None:
    from core import errors

    categories = {
        found for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.AppError) and found is not errors.AppError
    }  # fmt: skip
    for category in categories:
        assert any(parent in STATUS for parent in category.__mro__), category


def _calls(dependant: object) -> Iterator[object]:
    yield dependant.call  # type: ignore[attr-defined]
    for inner in dependant.dependencies:  # type: ignore[attr-defined]
        yield from _calls(inner)


def _is_async(call: object) -> bool:
    import inspect

    return inspect.iscoroutinefunction(call)
