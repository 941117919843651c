"""What a document costs in MongoDB: rows and indexes of a sample that the code itself made, as collStats counts them.

    python -m tools.measure_rows [COUNT]     # docs/scaling.md reckons with what it prints

All are processed, with the result of one that was read for real; one in four lies in a folder, one in five has an
external id. Their events are routed. `storage` is what they take on disk.
"""

import asyncio
import hashlib
import io
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.document import Document, RunResult, new_original_key, result_prefix, uploaded_event
from app.runtime import migrate, running
from core.clock import utc_now
from core.config import load_settings
from core.ids import new_id, random_token
from core.local.stack import LocalServers, start_servers
from tests.corpus import pdfs

AT_ONCE = 32
COLLECTIONS = ("documents", "deliveries")


def document(number: int, owners: list[str], folders: list[str]) -> Document:
    document_id, now = new_id("doc"), utc_now()
    return Document(
        id=document_id, owner_id=owners[number % len(owners)], filename=f"invoice-{random_token(40)}.pdf",
        content_type="application/pdf", size=250_000, sha256=None, key=new_original_key(document_id),
        folder_id=folders[number % len(folders)] if number % 4 == 0 else None,
        external_id=f"order-{random_token(48)}" if number % 5 == 0 else None, created_at=now, updated_at=now,
    )  # fmt: skip


async def add(container: Container, each: Document) -> None:
    """Uploaded, and waiting for its first attempt."""
    await container.documents.documents().add(each.model_copy(update={"seq": 1, "outbox": (uploaded_event(each),)}))
    await container.documents.runs().request(
        each.id, each.owner_id, processor="extract", options={}, force=False, request_id=new_id("req")
    )


async def result_of_a_real_one(container: Container, each: Document) -> RunResult:
    await container.files().put(each.key, io.BytesIO(pdfs.known_words(10)[0]), each.content_type)
    await add(container, each)
    await container.documents.attempts().run(each.id, 1)
    result: RunResult | None = (await container.documents.documents().get(each.id, each.owner_id)).run.result
    assert result is not None
    return result


async def process(container: Container, each: Document, like: RunResult) -> None:
    """Through every step that a worker takes, with a result like that one."""
    await add(container, each)
    runs, token, place = container.documents.runs(), random_token(), result_prefix(each.id, 1)
    await runs.claim(each.id, 1, token=token, worker="worker-7c9d8b6f5-x2x4q:17")
    await runs.hashed(each.id, token, hashlib.sha256(each.id.encode()).hexdigest())
    objects = {name: stored.model_copy(update={"key": place + name}) for name, stored in like.objects.items()}
    assert await runs.complete(each.id, token, like.model_copy(update={"objects": objects}))


async def sample(container: Container, count: int) -> None:
    owners, folders = [new_id("usr") for _ in range(50)], [new_id("fld") for _ in range(200)]
    like = await result_of_a_real_one(container, document(0, owners, folders))
    numbers = itertools.count(1)

    async def work() -> None:
        while (number := next(numbers)) < count:
            await process(container, document(number, owners, folders), like)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    rows = DocumentRecord.get_pymongo_collection()
    while await rows.find_one({"outbox.at": {"$exists": True}}):
        await container.documents.relay().run()


async def table(container: Container) -> None:
    database = DocumentRecord.get_pymongo_collection().database
    await database.client.admin.command("fsync")
    for name in COLLECTIONS:
        stats: dict[str, Any] = await database.command("collStats", name)
        rows = max(1, stats["count"])
        sizes = {"row": stats["size"], "storage": stats["storageSize"], **stats["indexSizes"]}
        sys.stdout.write(f"{name}: {stats['count']} rows, bytes per row\n")
        for part, size in {**sizes, "all indexes": stats["totalIndexSize"]}.items():
            sys.stdout.write(f"  {part:18}{size / rows:8.0f}\n")


async def measure(servers: LocalServers, folder: Path, count: int) -> None:
    settings = load_settings(
        "local", data_dir=folder, mongo_url=servers.mongo_url, redis_url=servers.redis_url,
        s3_endpoint_url=servers.s3_endpoint_url, s3_bucket=servers.s3_bucket,
        aws_access_key_id=servers.s3_access_key, aws_secret_access_key=servers.s3_secret_key,
    )  # fmt: skip
    async with running(build_container(settings, "worker")) as container:
        await migrate(container)
        await sample(container, count)
        await table(container)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, start_servers(Path(folder) / "servers") as servers:
        asyncio.run(measure(servers, Path(folder), int(sys.argv[1]) if sys.argv[1:] else 5_000))
