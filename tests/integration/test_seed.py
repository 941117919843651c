"""`python main.py seed` fills a running instance through its API, once."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from core import exits
from tests.integration.running import ROOT, Running, free_port

pytestmark = pytest.mark.timeout(180)

EMAIL, PASSWORD = "sample@example.com", "horse of the samples"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("stack"), free_port())
    running.start()
    yield running
    running.stop()


def seeded(stack: Running, password: str = PASSWORD, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "main.py", "--data-dir", str(stack.data_dir), *options]
    return subprocess.run(
        [*command, "seed", "--url", stack.base, "--email", EMAIL, "--password", password],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(stack: Running) -> dict[str, int]:
    """What the first call says."""
    ended = seeded(stack)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, int] = json.loads(ended.stdout)
    return said


@pytest.fixture
async def http(stack: Running, first: dict[str, int]) -> AsyncIterator[httpx.AsyncClient]:
    """The person who was made."""
    async with httpx.AsyncClient(base_url=stack.base, timeout=30) as client:
        login = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        yield client


async def test_folders_hold_documents_that_have_been_read(http: httpx.AsyncClient) -> None:
    folders = {each["folder_id"]: each["name"] for each in (await http.get("/folders")).json()["items"]}
    documents = (await http.get("/documents")).json()["items"]
    assert sorted(folders.values()) == ["Contracts", "Invoices", "Minutes"]
    assert {each["status"] for each in documents} == {"COMPLETED"}
    assert {each["folder_id"] for each in documents} == set(folders)
    texts = [(await http.get(f"/documents/{each['document_id']}/result/text")).text for each in documents]
    assert any("Twelve hammers, 153.00 EUR" in text for text in texts)
    assert any("a second shop" in text for text in texts)


async def test_products_have_stock(stack: Running, http: httpx.AsyncClient) -> None:
    secrets = dict(line.split("=", 1) for line in (stack.data_dir / "local.env").read_text().splitlines())
    levels = (await http.get("/inventory", headers={"X-API-Key": secrets["API_KEY"]})).json()["items"]
    assert {each["product"]["sku"]: each["on_hand"] for each in levels} == {
        "DEMO-HAMMER": 40, "DEMO-NAILS": 500, "DEMO-SAW": 3,
    }  # fmt: skip


async def test_a_second_call_adds_nothing(stack: Running, first: dict[str, int], http: httpx.AsyncClient) -> None:
    before = (await http.get("/documents")).json()
    again = seeded(stack)
    assert again.returncode == 0, again.stderr
    made = {"folders_made": 0, "documents_made": 0, "products_made": 0}
    assert json.loads(again.stdout) == first | made
    assert (await http.get("/documents")).json() == before
    assert first["documents_made"] == first["documents"] == len(before["items"])


def test_somebody_elses_account_is_not_touched(stack: Running, first: dict[str, int]) -> None:
    refused = seeded(stack, "another password")
    assert refused.returncode == exits.CANNOT_GO_ON
    assert refused.stderr == f"dossier: --password: is not that of {EMAIL}, who is known to {stack.base}\n"
    assert refused.stdout == ""
