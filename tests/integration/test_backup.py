"""Export, wipe, import, the same: the procedure of docs/backup.md on real servers."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import redis
from pymongo import MongoClient

from app.container import Container, build_container
from app.modules import MODULES
from app.runtime import migrate
from app.server import create_app
from core.config import load_settings
from core.ids import random_token
from core.local.stack import LocalServers, start_servers
from tests.clients import API_KEY, PRIVATE_TOKEN, SIGNING_SECRET, Person, Service
from tests.corpus import pdfs
from tests.integration.running import ROOT
from tools import backup

pytestmark = pytest.mark.timeout(240)


@dataclass
class Site:
    """An installation: its settings, which outlive everything else, and its stores."""

    env: dict[str, str]
    servers: LocalServers
    mongo: MongoClient[Any]
    s3: Any

    @property
    def prefix(self) -> str:
        return self.env["MONGO_DB"]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Container, httpx.AsyncClient]]:
        """The application in this process, as if started anew."""
        container = build_container(
            load_settings("local", **{name.lower(): value for name, value in self.env.items()}), "api"
        )
        app = create_app(container)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dossier.test") as http,
        ):
            await migrate(container)
            yield container, http

    def doctor(self) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code and what it said."""
        ran = subprocess.run(
            [sys.executable, "main.py", "--env", "local", "doctor"], cwd=ROOT, env=os.environ | self.env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode in {0, 1}, ran.stderr
        return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines() if '"finding' in line]

    def objects(self) -> dict[str, tuple[bytes, str]]:
        """Content and content type by key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.servers.s3_bucket, Prefix="_dossier/")
        listed = [item["Key"] for page in pages for item in page.get("Contents", [])]
        found = {}
        for key in [key for key in listed if not key.endswith("/")]:
            stored = self.s3.get_object(Bucket=self.servers.s3_bucket, Key=key)
            found[key] = (stored["Body"].read(), stored["ContentType"])
        return found

    def wipe(self) -> None:
        for module in MODULES:
            self.mongo.drop_database(f"{self.prefix}_{module}")
        for key in self.objects():
            self.s3.delete_object(Bucket=self.servers.s3_bucket, Key=key)
        with redis.Redis.from_url(self.servers.redis_url) as client:
            client.flushall()

    async def restore(self, rows: Path, objects: dict[str, tuple[bytes, str]]) -> None:
        for key, (content, content_type) in objects.items():
            self.s3.put_object(Bucket=self.servers.s3_bucket, Key=key, Body=content, ContentType=content_type)
        async with self.open():
            pass  # `main.py migrate` anywhere but in local
        backup.restore(self.mongo, self.prefix, rows)


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Of this file alone: they are wiped."""
    with start_servers(tmp_path_factory.mktemp("backup")) as running:
        yield running


@pytest.fixture
def site(own_servers: LocalServers, tmp_path: Path, signing_key: Path) -> Iterator[Site]:
    env = {
        "DATA_DIR": str(tmp_path / "data"),
        "MONGO_URL": own_servers.mongo_url,
        "MONGO_DB": f"b{random_token(48)}",
        "REDIS_URL": own_servers.redis_url,
        "S3_ENDPOINT_URL": own_servers.s3_endpoint_url,
        "S3_BUCKET": own_servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": own_servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": own_servers.s3_secret_key,
        "JWT_PRIVATE_KEYS": str(signing_key),
        "API_KEY": API_KEY,
        "PRIVATE_TOKENS": PRIVATE_TOKEN,
        "SCAN_SIGNING_SECRET": SIGNING_SECRET,
    }
    s3 = boto3.session.Session().client(
        "s3", endpoint_url=own_servers.s3_endpoint_url, region_name=own_servers.s3_region,
        aws_access_key_id=own_servers.s3_access_key, aws_secret_access_key=own_servers.s3_secret_key,
    )  # fmt: skip
    with MongoClient[Any](own_servers.mongo_url) as mongo:
        made = Site(env, own_servers, mongo, s3)
        yield made
        made.wipe()
    s3.close()


async def created(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code in {201, 202}, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def everything_seen(person: Person, service: Service) -> dict[str, Any]:
    """What both read, by path: lists, then each thing and what belongs to it."""
    seen: dict[str, Any] = {}

    async def read(who: Person | Service, path: str) -> Any:
        answer = await who.get(path)
        assert answer.status_code == 200, (path, answer.text)
        seen[path] = answer.json() if "json" in answer.headers["content-type"] else answer.content
        return seen[path]

    for path in ("/auth/sessions", "/folders"):
        await read(person, path)
    for document in (await read(person, "/documents"))["items"]:
        own = f"/documents/{document['document_id']}"
        parts = ["", "/status", "/content"]
        parts += ["/result", "/result/text", "/thumbnail"] if document["status"] == "COMPLETED" else []
        for part in parts:
            await read(person, own + part)
    for product in (await read(service, "/products"))["items"]:
        await read(service, f"/products/{product['product_id']}")
        await read(service, f"/inventory/{product['product_id']}")
        await read(service, f"/inventory/{product['product_id']}/movements")
    return seen


async def test_what_was_there_is_there_again(site: Site, tmp_path: Path) -> None:
    async with site.open() as (container, http):
        ada = await Person.registered(http, "ada@example.com")
        shop = Service(http)
        folder = await created(await ada.post("/folders", json={"name": "Letters"}))
        await ada.uploaded(pdfs.pdf(["only kept"]), "kept.pdf", folder_id=folder["folder_id"])
        read = await ada.uploaded(pdfs.known_words(3)[0], "read.pdf")
        await created(await ada.post(f"/documents/{read['document_id']}/process"))
        await container.documents.attempts().run(read["document_id"], 1)
        product = await created(await shop.post("/products", json={"sku": "H-1", "name": "Hammer"}))
        moved = {"kind": "receive", "quantity": 7}
        await created(await shop.post(f"/inventory/{product['product_id']}/movements", json=moved))
        before = await everything_seen(ada, shop)
        assert any(path.endswith("/result/text") for path in before)
        backup.dump(site.mongo, site.prefix, tmp_path / "before")
        objects = site.objects()
    site.wipe()
    assert site.objects() == {}

    await site.restore(tmp_path / "before", objects)
    backup.dump(site.mongo, site.prefix, tmp_path / "after")
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")
    assert site.objects() == objects
    assert site.doctor() == (0, [{"findings": 0, "left": 0}])
    async with site.open() as (_, http):
        ada.http = shop.http = http
        assert await everything_seen(ada, shop) == before
        renewed = await http.post("/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]})
        assert renewed.status_code == 200


def files_of(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.bson")}
    assert sum(map(bool, found.values())) >= 8
    return found


@pytest.mark.parametrize(("rows_first", "code", "kinds"), [(True, 0, []), (False, 1, ["missing_object"])])
async def test_with_rows_first_an_upload_in_between_leaves_no_name_without_its_bytes(
    site: Site, tmp_path: Path, rows_first: bool, code: int, kinds: list[str]
) -> None:
    objects: dict[str, tuple[bytes, str]] = {}

    def save(rows: bool) -> None:
        if rows:
            backup.dump(site.mongo, site.prefix, tmp_path / "rows")
        else:
            objects.update(site.objects())

    async with site.open() as (_, http):
        ada = await Person.registered(http, "ada@example.com")
        await ada.uploaded(pdfs.pdf(["before"]))
        save(rows=rows_first)
        await ada.uploaded(pdfs.pdf(["in between"]))
        save(rows=not rows_first)
    site.wipe()
    await site.restore(tmp_path / "rows", objects)
    exit_code, told = site.doctor()
    assert exit_code == code
    assert [each["finding"] for each in told if "finding" in each] == kinds


async def test_nothing_is_restored_over_what_is_there(site: Site, tmp_path: Path) -> None:
    async with site.open() as (_, http):
        await Person.registered(http, "ada@example.com")
        backup.dump(site.mongo, site.prefix, tmp_path / "rows")
        with pytest.raises(backup.NotEmpty):
            backup.restore(site.mongo, site.prefix, tmp_path / "rows")
