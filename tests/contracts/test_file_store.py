"""One suite for every adapter of FileStore: S3 (real) and local files."""

import asyncio
import io
import threading
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from core.local.stack import LocalServers
from core.storage.base import TURN_CHUNKS, BucketUnreadable, FileMissing, FileStore, StorageUnavailable
from core.storage.local import LocalFileStore
from core.storage.s3 import S3FileStore, S3Options

BYTES = bytes(range(256)) * 20_000  # 5 MB: several chunks


def s3_options(servers: LocalServers, endpoint: str | None = None) -> S3Options:
    return S3Options(
        bucket=servers.s3_bucket,
        endpoint_url=endpoint or servers.s3_endpoint_url,
        public_endpoint_url=None,
        access_key_id=servers.s3_access_key,
        secret_access_key=servers.s3_secret_key,
        region=servers.s3_region,
    )


@pytest.fixture(params=["s3", "local"])
async def store(request: pytest.FixtureRequest, servers: LocalServers, tmp_path: Path) -> AsyncIterator[FileStore]:
    store: S3FileStore | LocalFileStore = (
        S3FileStore(s3_options(servers)) if request.param == "s3" else LocalFileStore(tmp_path / "files", [b"k" * 32])
    )
    await store.open()
    yield store
    await store.close()


async def whole(store: FileStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    async with store.read(key, start, end) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_what_is_put_is_read_back(store: FileStore, tmp_path: Path) -> None:
    await store.put("_dossier/t/a", io.BytesIO(BYTES), "application/pdf")
    assert await whole(store, "_dossier/t/a") == BYTES
    await store.get("_dossier/t/a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BYTES
    found = await store.stat("_dossier/t/a")
    assert (found.key, found.size) == ("_dossier/t/a", len(BYTES))


async def test_a_source_is_stored_from_its_start(store: FileStore) -> None:
    source = io.BytesIO(b"abc")
    source.read()
    await store.put("_dossier/t/start", source, "text/plain")
    assert await whole(store, "_dossier/t/start") == b"abc"


async def test_parts_are_read_by_their_bounds(store: FileStore) -> None:
    await store.put("_dossier/t/part", io.BytesIO(BYTES), "application/pdf")
    for start, end in ((0, 0), (10, 2_000_000), (len(BYTES) - 3, len(BYTES) - 1), (5, None)):
        assert await whole(store, "_dossier/t/part", start, end) == BYTES[start : None if end is None else end + 1]


async def test_an_empty_object_is_an_object(store: FileStore) -> None:
    await store.put("_dossier/t/empty", io.BytesIO(b""), "text/plain")
    assert await whole(store, "_dossier/t/empty") == b""
    taken: list[bytes] = []
    await store.feed("_dossier/t/empty", taken.append)
    assert taken == []


async def test_an_object_is_fed_piece_by_piece_to_whoever_takes_it(store: FileStore) -> None:
    await store.put("_dossier/t/fed", io.BytesIO(BYTES), "application/pdf")
    taken: list[bytes] = []
    await store.feed("_dossier/t/fed", taken.append)
    assert b"".join(taken) == BYTES
    with pytest.raises(FileMissing):
        await store.feed("_dossier/t/none", taken.append)


async def test_who_raises_is_fed_no_further(store: FileStore) -> None:
    await store.put("_dossier/t/fed", io.BytesIO(BYTES), "application/pdf")
    taken: list[bytes] = []

    def take(piece: bytes) -> None:
        taken.append(piece)
        raise LookupError

    with pytest.raises(LookupError):
        await store.feed("_dossier/t/fed", take)
    assert len(taken) == 1


async def test_others_get_the_thread_after_a_turn(store: S3FileStore | LocalFileStore) -> None:
    await store.put("_dossier/t/fed", io.BytesIO(BYTES), "application/pdf")
    store._threads.shutdown()
    store._threads = ThreadPoolExecutor(1)
    taken, seen = list[bytes](), list[int]()

    def take(piece: bytes) -> None:
        if not taken:
            store._threads.submit(lambda: seen.append(len(taken)))
        taken.append(piece)

    await store.feed("_dossier/t/fed", take)
    assert seen == [TURN_CHUNKS]
    assert b"".join(taken) == BYTES


async def test_who_leaves_keeps_no_thread_longer_than_a_turn(store: S3FileStore | LocalFileStore) -> None:
    await store.put("_dossier/t/fed", io.BytesIO(BYTES), "application/pdf")
    taken, begun, may_go_on = list[bytes](), threading.Event(), threading.Event()

    def take(piece: bytes) -> None:
        taken.append(piece)
        begun.set()
        may_go_on.wait(10)

    feeding = asyncio.ensure_future(store.feed("_dossier/t/fed", take))
    assert await asyncio.to_thread(begun.wait, 10)
    feeding.cancel()
    await asyncio.wait([feeding])
    may_go_on.set()
    await asyncio.to_thread(store._threads.shutdown)  # all they had to do is done
    assert len(taken) <= TURN_CHUNKS < len(BYTES) / len(taken[0])


async def test_putting_again_replaces(store: FileStore) -> None:
    for content in (b"one", b"two"):
        await store.put("_dossier/t/again", io.BytesIO(content), "text/plain")
    assert await whole(store, "_dossier/t/again") == b"two"


async def test_what_is_not_there_is_missing(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        await store.stat("_dossier/t/none")
    with pytest.raises(FileMissing):
        await store.get("_dossier/t/none", tmp_path / "copy")
    with pytest.raises(FileMissing):
        await whole(store, "_dossier/t/none")
    await store.delete(["_dossier/t/none"])


async def test_another_version_is_missing(store: FileStore, tmp_path: Path) -> None:
    key = "imports/$a b/ü.pdf"
    await store.put(key, io.BytesIO(b"one"), "text/plain")
    etag = (await store.stat(key)).etag
    assert [file.etag async for file in store.list_files("imports/$a b/")] == [etag]
    async with store.read(key, 1, 2, etag=etag) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"ne"
    await store.get(key, tmp_path / "copy", etag=etag)
    assert (tmp_path / "copy").read_bytes() == b"one"

    await store.put(key, io.BytesIO(b"two"), "text/plain")
    with pytest.raises(FileMissing):
        await store.get(key, tmp_path / "copy", etag=etag)
    with pytest.raises(FileMissing):
        async with store.read(key, etag=etag):
            """Nothing is opened."""


async def test_the_same_store_reads_another_bucket(store: FileStore, servers: LocalServers) -> None:
    await store.put("imports/at.txt", io.BytesIO(b"x"), "text/plain")
    same = store.at(servers.s3_bucket)
    assert await whole(same, "imports/at.txt") == b"x"
    if isinstance(store, S3FileStore):
        elsewhere = store.at("elsewhere")
        assert "/elsewhere/imports/at.txt?" in await elsewhere.url("imports/at.txt", expires_s=60, headers={})
        with pytest.raises((FileMissing, StorageUnavailable)):
            await whole(elsewhere, "imports/at.txt")
        assert await whole(store, "imports/at.txt") == b"x"


async def test_lists_hold_all_keys_of_a_prefix_in_order(store: FileStore) -> None:
    keys = [f"_dossier/list/{number:04d}" for number in range(25)]
    for key in (*reversed(keys), "_dossier/listing"):
        await store.put(key, io.BytesIO(b"x"), "text/plain")
    assert [file.key async for file in store.list_files("_dossier/list/")] == keys
    await store.delete(keys[:20])
    assert [file.key async for file in store.list_files("_dossier/list/")] == keys[20:]
    assert [file.key async for file in store.list_files("_dossier/nothing/")] == []


async def test_a_listing_goes_on_behind_any_key(store: FileStore) -> None:
    keys = [f"_dossier/page/{number:02}" for number in range(5)]
    for key in (*keys, "page-after"):
        await store.put(key, io.BytesIO(b"x"), "text/plain")
    first, more = await store.page("_dossier/page/", "", 3)
    assert ([file.key for file in first], more) == (keys[:3], True)
    rest, more = await store.page("_dossier/page/", first[-1].key, 3)
    assert ([file.key for file in rest], more) == (keys[3:], False)
    assert rest[0].etag == (await store.stat(keys[3])).etag
    assert await store.page("_dossier/page/", keys[-1], 3) == ([], False)
    behind, _ = await store.page("", "_dossier/\U0010ffff", 1000)  # how a scan passes over what is ours
    assert "page-after" in [file.key for file in behind]
    assert not [file.key for file in behind if file.key.startswith("_dossier/")]
    await store.delete([*keys, "page-after"])


async def test_a_bucket_that_is_not_there_cannot_be_read(servers: LocalServers) -> None:
    store = S3FileStore(s3_options(servers))
    await store.open()
    with pytest.raises(BucketUnreadable):
        await store.at("missing-bucket").page("", "", 3)
    await store.close()


async def test_a_link_carries_the_headers_of_its_answer(store: FileStore) -> None:
    await store.put("_dossier/t/link", io.BytesIO(b"%PDF"), "application/pdf")
    headers = {"Content-Type": "application/pdf", "Content-Disposition": 'attachment; filename="a b.pdf"'}
    url = await store.url("_dossier/t/link", expires_s=60, headers=headers)
    if isinstance(store, LocalFileStore):
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert store.url_allows("_dossier/t/link", query)
        assert not store.url_allows("_dossier/t/other", query)
        assert not store.url_allows("_dossier/t/link", {**query, "expires": "9999999999"})
        assert not store.url_allows("_dossier/t/link", {})
        expired = await store.url("_dossier/t/link", expires_s=-1, headers=headers)
        assert not store.url_allows("_dossier/t/link", dict(p.split("=") for p in urlsplit(expired).query.split("&")))
    else:
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"%PDF"
            assert answer.headers["Content-Disposition"] == headers["Content-Disposition"]


async def test_an_outage_is_told_as_one(servers: LocalServers, tmp_path: Path) -> None:
    away = S3FileStore(s3_options(servers, "http://127.0.0.1:9"))
    await away.open()
    for call in (away.ping(), away.put("k", io.BytesIO(b"x"), "text/plain"), away.get("k", tmp_path / "k")):
        with pytest.raises(StorageUnavailable):
            await call
    await away.close()


async def test_keys_never_leave_the_folder(tmp_path: Path) -> None:
    store = LocalFileStore(tmp_path / "files", [b"k" * 32])
    await store.open()
    for key in ("../outside", "a/../../b", "/etc/passwd", "", "a//b", ".drafts/x", "a/\0"):
        with pytest.raises(ValueError, match="not a key"):
            await store.put(key, io.BytesIO(b"x"), "text/plain")
    await store.close()
