"""From objects of a host to processed documents: by one process that has all, and by two that call each other."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from core.ids import random_token
from core.local.stack import LocalServers
from core.storage.s3 import S3FileStore
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET, Person, problem
from tests.contracts.test_file_store import s3_options
from tests.corpus import pdfs
from tests.integration.running import Running, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WITHIN_S = 60


@pytest.fixture(scope="module", params=["one process", "two services"])
def base(
    request: pytest.FixtureRequest, servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the host listens."""
    env = {
        "MONGO_URL": servers.mongo_url,
        "MONGO_DB": f"y{random_token(48)}",
        "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "PRIVATE_TOKENS": PRIVATE_TOKEN,
        "SCAN_SIGNING_SECRET": SIGNING_SECRET,
        "PROCESSING_LEASE_SECONDS": "2",
        "RECONCILE_INTERVAL_SECONDS": "1",
    }
    host_port, scans_port = free_port(), free_port()
    if request.param == "one process":
        services = [Running(tmp_path_factory.mktemp("all"), host_port, **env)]
    else:
        callbacks = json.dumps({"default": f"http://127.0.0.1:{host_port}/callbacks/scans"})
        ordering = {"SCANS_URL": f"http://127.0.0.1:{scans_port}", "SCANS_PRIVATE_TOKEN": f"withdrawn,{PRIVATE_TOKEN}"}
        services = [
            Running(tmp_path_factory.mktemp("host"), host_port, modules="users,folders,documents", **env, **ordering),
            Running(tmp_path_factory.mktemp("scans"), scans_port, modules="scans", **env, SCAN_CALLBACKS=callbacks),
        ]
    try:
        for service in services:
            service.start()
        yield services[0].base
    finally:
        for service in services:
            if hasattr(service, "process") and service.process.poll() is None:
                service.stop()


@pytest.fixture
async def ada(base: str) -> AsyncIterator[Person]:
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        yield await Person.registered(http, f"ada-{random_token(48)}@example.com")


@pytest.fixture
async def bucket(servers: LocalServers) -> AsyncIterator[S3FileStore]:
    store = S3FileStore(s3_options(servers))
    await store.open()
    yield store
    await store.close()


async def synced(person: Person) -> dict[str, Any]:
    """A sync of all folders, once it is over."""
    answer = await person.post("/folders/sync")
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + WITHIN_S
    while True:
        sync: dict[str, Any] = (await person.get(answer.headers["location"])).json()
        if sync["status"] in {"COMPLETED", "FAILED"}:
            return sync
        assert time.monotonic() < deadline, sync
        await asyncio.sleep(0.2)


async def test_objects_become_documents_that_are_read_where_they_lie(
    ada: Person, bucket: S3FileStore, servers: LocalServers
) -> None:
    prefix = f"imports/{random_token(48)}/"
    content, texts = pdfs.known_words(3)
    key = f"{prefix}Ünïcode $name.pdf"
    await bucket.put(key, io.BytesIO(content), "application/pdf")
    await bucket.put(f"{prefix}deep/er/b.PDF", io.BytesIO(pdfs.pdf(["b"])), "application/pdf")
    await bucket.put(f"{prefix}notes.txt", io.BytesIO(b"no document"), "text/plain")
    source = f"s3://{servers.s3_bucket}/{prefix}"
    folder = (await ada.post("/folders", json={"name": "Imports", "source": source})).json()["folder_id"]

    sync = await synced(ada)
    assert (sync["status"], sync["error"], sync["batches_received"]) == ("COMPLETED", None, 1)
    assert (sync["documents_seen"], sync["documents_created"], sync["documents_missing"]) == (2, 2, 0)
    found = (await ada.get(f"/folders/{folder}/documents", params={"limit": 10})).json()["items"]
    assert {item["filename"] for item in found} == {"Ünïcode $name.pdf", "b.PDF"}
    assert all((item["status"], item["sha256"]) == ("UPLOADED", None) for item in found)
    document_id = next(item["document_id"] for item in found if item["filename"] == "Ünïcode $name.pdf")
    path = f"/documents/{document_id}"

    assert (await ada.get(f"{path}/content")).content == content
    assert (await ada.get(f"{path}/content", headers={"Range": "bytes=1-3"})).content == content[1:4]
    link = (await ada.get(f"{path}/content-url")).json()["url"]
    assert (await ada.http.get(link)).content == content
    assert (await ada.post(f"{path}/process")).status_code == 202
    assert (await ada.ended(document_id))["status"] == "COMPLETED"
    assert (await ada.get(f"{path}/result/text")).text.split("\f") == texts
    assert len((await ada.get(path)).json()["sha256"]) == 64

    # The host replaces one object and removes the other.
    await bucket.put(key, io.BytesIO(pdfs.pdf(["other words"])), "application/pdf")
    await bucket.delete([f"{prefix}deep/er/b.PDF"])
    problem(await ada.get(f"{path}/content"), 404, "not_found")  # nobody has seen the new one yet
    again = await synced(ada)
    assert (again["documents_seen"], again["documents_updated"], again["documents_missing"]) == (1, 1, 1)
    changed = (await ada.get(path)).json()
    assert (changed["status"], changed["sha256"]) == ("UPLOADED", None)
    assert (await ada.post(f"{path}/process")).status_code == 202
    assert (await ada.ended(document_id))["status"] == "COMPLETED"
    assert "other words" in (await ada.get(f"{path}/result/text")).text

    assert (await ada.call("DELETE", path)).status_code == 204
    assert (await synced(ada))["documents_created"] == 0
    problem(await ada.get(path), 404, "not_found")
    assert (await bucket.stat(key)).size > 0
