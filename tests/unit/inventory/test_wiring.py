"""Which settings inventory needs without products, and which of its adapters it gets."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.container import build_container
from app.inventory.adapter.catalog_http import HttpProductCatalog
from app.inventory.adapter.catalog_local import LocalProductCatalog
from app.modules import selected
from core.config import ConfigError, Settings
from tests.clients import SIGNING_SECRET

REMOTE = {"products_url": "http://products.test", "products_api_key": SecretStr("k")}

SCANS = {"private_tokens": SecretStr("t"), "scan_signing_secret": SecretStr(SIGNING_SECRET)}


def settings(folder: Path, **fields: Any) -> Settings:
    servers = {"mongo_url": SecretStr("mongodb://127.0.0.1:1"), "redis_url": SecretStr("redis://127.0.0.1:1")}
    return Settings(app_env="test", data_dir=folder, **servers | fields)


@pytest.mark.parametrize("missing", ["products_url", "products_api_key"])
def test_inventory_alone_says_where_products_should_be(tmp_path: Path, missing: str) -> None:
    given = {name: value for name, value in REMOTE.items() if name != missing}
    with pytest.raises(ConfigError) as error:
        selected(settings(tmp_path, app_modules=("inventory",), **given))
    assert error.value.lines == (f"{missing.upper()}: must be set where inventory runs without products",)


async def test_inventory_alone_asks_over_http_and_readiness_looks_at_it(tmp_path: Path) -> None:
    container = build_container(settings(tmp_path, app_modules=("inventory",), **REMOTE), "api")
    catalog = container.inventory.catalog()
    assert isinstance(catalog, HttpProductCatalog)
    assert set(container.neighbours()) == {"products"}
    await catalog.close()


@pytest.mark.parametrize("modules", [("all",), ("products", "inventory")])
def test_products_in_the_process_are_used_whatever_the_settings_say(tmp_path: Path, modules: tuple[str, ...]) -> None:
    with capture_logs() as logs:
        container = build_container(settings(tmp_path, app_modules=modules, **REMOTE | SCANS), "worker")
    assert isinstance(container.inventory.catalog(), LocalProductCatalog)
    assert [(line["event"], line["setting"]) for line in logs] == [("setting_without_use", "PRODUCTS_URL")]
    assert container.neighbours() == {}
