"""The documentation as a person sees it: rendered by Chromium, which the policy of the page must let work."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from core.ids import random_token
from core.local.stack import LocalServers
from tests.integration.running import ROOT, free_port, wait_until

pytestmark = pytest.mark.timeout(180)

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SOME_COLOURS = 200  # a page whose scripts were blocked has one


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail("no Chromium or Chrome is there: `sudo make browser` installs one (Debian; else see Makefile)")
    return found


@pytest.fixture(scope="module")
def base(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where an API answers."""
    port = free_port()
    env = os.environ | {
        "DATA_DIR": str(tmp_path_factory.mktemp("data")), "MONGO_URL": servers.mongo_url,
        "REDIS_URL": servers.redis_url, "MONGO_DB": f"b{random_token(48)}", "STORAGE_BACKEND": "local",
    }  # fmt: skip
    command = [sys.executable, "main.py", "--role", "api", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as api:

        def answers() -> bool:
            assert api.poll() is None
            try:
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=3).status == 200)
            except OSError:
                return False

        wait_until(answers, 60, "the API answers")
        yield f"http://127.0.0.1:{port}"
        api.terminate()


class Rendered(HTMLParser):
    """The ids in a page after its scripts."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attrs if name == "id" and value}


def rendered(browser: str, url: str, folder: Path) -> tuple[Rendered, Image.Image]:
    picture = folder / "page.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1600",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--timeout=60000",
        f"--screenshot={picture}", "--dump-dom", url,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert picture.exists(), ended.stderr[-2000:]
    with Image.open(picture) as image:
        return Rendered(ended.stdout), image.convert("RGB")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_browser_shows_every_operation(page: str, browser: str, base: str, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=10) as answer:
        operations = set(re.findall(r'"operationId":\s*"(\w+)"', answer.read().decode()))
    dom, picture = rendered(browser, base + page, tmp_path)
    assert len(operations) > 60
    missing = {name for name in operations if not any(name in each for each in dom.ids)}
    assert not missing
    assert len(picture.getcolors(1 << 24) or ()) > SOME_COLOURS
