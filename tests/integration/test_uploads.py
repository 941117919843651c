"""Uploads on real parts: broken off, too many, straight to S3, by the command line; and what the doctor says."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from core.ids import random_token
from core.security.local_secrets import local_secrets
from tests.clients import PASSWORD, Person, problem
from tests.corpus import pdfs
from tests.integration.running import ROOT, Running, free_port, wait_until

pytestmark = pytest.mark.timeout(240)

MIB = 2**20
LIMIT = 80 * MIB
DELETED = "(deleted)"  # how Linux marks a file that is open and has no name


def content_of(size: int) -> bytes:
    small = pdfs.pdf([random_token()])
    return small[:9] + b"%" * (size - len(small)) + small[9:]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(
        tmp_path_factory.mktemp("uploads"), free_port(), MAX_UPLOAD_BYTES=str(LIMIT), UPLOAD_CONCURRENCY="2",
        UPLOAD_WAIT_SECONDS="1",
    )  # fmt: skip
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def http(stack: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.base, timeout=60) as client:
        yield client


@pytest.fixture
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, f"ada-{random_token(48)}@example.com")


class Sender:
    """A client that sends an upload as slowly, and breaks it off as rudely, as it likes."""

    def __init__(self, stack: Running, person: Person, size: int) -> None:
        self._port = stack.port
        self._head = (
            f"POST /documents/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: {person.auth['Authorization']}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {size}\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7\n'
        ).encode()

    async def __aenter__(self) -> "Sender":
        self.reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self.send(self._head)
        return self

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def api_of(stack: Running) -> int:
    found = [process.pid for process in stack.find("--role", "api")]
    assert len(found) == 1
    return found[0]


def spooled(stack: Running) -> int:
    """How many files without a name the API holds open."""
    count = 0
    for link in Path(f"/proc/{api_of(stack)}/fd").iterdir():
        try:
            count += str(tempfile.gettempdir()) in (target := str(link.readlink())) and DELETED in target
        except FileNotFoundError:
            continue
    return count


def objects(stack: Running) -> list[str]:
    client = s3(stack)
    return [item["Key"] for item in client.list_objects_v2(Bucket="dossier").get("Contents", [])]


def s3(stack: Running) -> Any:
    endpoint = stack.find("--role", "api")[0].environ()["S3_ENDPOINT_URL"]
    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="dossier",
        aws_secret_access_key=local_secrets(stack.data_dir)["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def requests_with(stack: Running, status: int) -> int:
    return sum(event.get("status") == status for event in stack.events() if event["event"] == "request")


async def test_an_upload_that_breaks_off_leaves_nothing(stack: Running, ada: Person) -> None:
    before = requests_with(stack, 499)
    async with Sender(stack, ada, 10 * MIB) as sender:
        await sender.send(b"x" * (3 * MIB))
        wait_until(lambda: spooled(stack) == 1, 10, "the file is spooled")
    wait_until(lambda: spooled(stack) == 0, 10, "the spooled file is gone")
    wait_until(lambda: requests_with(stack, 499) == before + 1, 10, "the request is told as given up")
    assert [event for event in stack.events() if event["event"] == "unhandled_error"] == []
    assert (await ada.get("/documents")).json()["items"] == []
    assert (await ada.upload(content_of(2000))).status_code == 201


async def test_who_finds_no_place_is_told_to_come_back(stack: Running, ada: Person) -> None:
    async with Sender(stack, ada, MIB), Sender(stack, ada, MIB):
        for _ in range(20):  # until both have taken their places
            answer = await ada.upload(content_of(2000))
            if answer.status_code != 201:
                break
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert (await ada.get("/documents")).status_code == 200
    wait_until(lambda: spooled(stack) == 0, 10, "the places are free")
    assert (await ada.upload(content_of(2000))).status_code == 201


async def test_without_storage_an_upload_is_503_and_leaves_nothing(stack: Running, ada: Person) -> None:
    await ada.upload(content_of(2000))
    before = objects(stack)
    server = stack.find("juicefs", "gateway")[0]
    server.send_signal(signal.SIGSTOP)
    try:
        answer = await ada.upload(content_of(3 * MIB))
        problem(answer, 503, "dependency_unavailable")
        assert answer.headers["retry-after"] == "5"
        begun = await ada.post("/documents/uploads", json=announced(5 * MIB))
        assert begun.status_code == 201  # signing needs nobody
        state = await ada.get(f"/documents/uploads/{begun.json()['upload_id']}")
        problem(state, 503, "dependency_unavailable")
    finally:
        server.send_signal(signal.SIGCONT)
    assert spooled(stack) == 0
    wait_until(stack.ready, 20, "storage answers again")
    # What was sent while it stood still may have arrived in the end: as an object that the sweep will find.
    assert set(before) <= set(objects(stack))


def announced(size: int) -> dict[str, Any]:
    return {"filename": "a.pdf", "size": size, "content_type": "application/pdf"}


async def test_a_large_file_goes_to_s3_in_parts_and_is_processed(stack: Running, ada: Person) -> None:
    content = content_of(65 * MIB)
    begun = (await ada.post("/documents/uploads", json=announced(len(content)))).json()
    step = begun["part_size"]
    assert (step, begun["url"], [part["part_number"] for part in begun["parts"]]) == (16 * MIB, None, [1, 2, 3, 4, 5])
    where = f"/documents/uploads/{begun['upload_id']}"
    async with httpx.AsyncClient(timeout=60) as storage:
        last = begun["parts"][4]
        assert (await storage.put(last["url"], content=content[4 * step :])).status_code == 200
        problem(await ada.post(f"{where}/complete"), 409, "upload_incomplete")
        state = (await ada.get(where)).json()
        assert [(part["part_number"], part["size"]) for part in state["parts"]] == [(5, MIB)]
        for part in state["urls"]:
            start = (part["part_number"] - 1) * step
            assert (await storage.put(part["url"], content=content[start : start + step])).status_code == 200
    state = (await ada.get(where)).json()
    sent = [{"part_number": part["part_number"], "etag": part["etag"]} for part in state["parts"]]
    document = (await ada.post(f"{where}/complete", json={"parts": sent})).json()
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    assert (await ada.get(f"/documents/{document['document_id']}/content")).content == content
    await ada.post(f"/documents/{document['document_id']}/process")
    assert (await ada.ended(document["document_id"], within_s=60))["status"] == "COMPLETED"


async def test_the_command_line_uploads_processes_and_goes_on_after_a_crash(
    stack: Running, ada: Person, tmp_path: Path
) -> None:
    small, large = tmp_path / "small.pdf", tmp_path / "large.pdf"
    small.write_bytes(pdfs.pdf(["hello"]))
    large.write_bytes(content_of(65 * MIB))
    env = {
        **os.environ, "DOSSIER_HOME": str(tmp_path / "home"), "DOSSIER_PASSWORD": PASSWORD,
        "PYTHONPATH": str(ROOT / "client"),
    }  # fmt: skip

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dossier_client.cli", *arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert run("upload", "small.pdf").returncode == 2
    assert run("login", "--server", stack.base, "--email", ada.email).returncode == 0
    begun = subprocess.Popen(
        [sys.executable, "-m", "dossier_client.cli", "upload", "large.pdf"], env=env, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: list((tmp_path / "home").glob("upload-*")), 20, "the upload has begun")
    begun.kill()
    begun.wait()
    done = run("upload", "small.pdf", "large.pdf", "missing.pdf", "--folder", "Inbox", "--process", "--wait")
    assert done.returncode == 1, done.stderr
    rows = sorted(line.split("\t") for line in done.stdout.splitlines())
    assert [(row[0], row[2]) for row in rows] == [
        ("large.pdf", "completed"), ("missing.pdf", "failed"), ("small.pdf", "completed"),
    ]  # fmt: skip
    folder = (await ada.get("/folders")).json()["items"][0]
    assert folder["name"] == "Inbox"
    found = (await ada.get(f"/documents?folder_id={folder['folder_id']}")).json()["items"]
    assert {item["document_id"] for item in found} == {rows[0][1], rows[2][1]}
    again = run("upload", "small.pdf")
    assert (again.returncode, again.stdout.split("\t")[2].strip()) == (0, "uploaded")


async def test_the_doctor_finds_what_was_lost(stack: Running, ada: Person) -> None:
    document = await ada.uploaded(content_of(2000))
    api = stack.find("--role", "api")[0]
    env = {**os.environ, **api.environ()}
    command = [sys.executable, "main.py", "--env", "local", "--data-dir", str(stack.data_dir), "doctor"]

    def doctor(*flags: str) -> tuple[int, list[dict[str, Any]]]:
        ran = subprocess.run([*command, *flags], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
        return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()]

    assert doctor() == (0, [{"findings": 0, "left": 0}])
    key = next(key for key in objects(stack) if document["document_id"] in key)
    s3(stack).delete_object(Bucket="dossier", Key=key)
    code, lines = doctor("--fix")
    assert (code, lines[0]) == (1, {"finding": "missing_object", "key": key, "fixed": False})
    assert lines[1] == {"findings": 1, "left": 1, "missing_object": 1}


async def test_two_hundred_downloads_at_once_all_arrive_whole_in_bounded_memory(
    stack: Running, http: httpx.AsyncClient, ada: Person
) -> None:
    content = content_of(4 * MIB)
    document_id = (await ada.uploaded(content))["document_id"]
    (api,) = [process.pid for process in stack.find("main.py", "--role", "api")]
    Path(f"/proc/{api}/clear_refs").write_text("5")  # its peak from here on
    before = memory_mib(api)

    async def fetched() -> str:
        digest = hashlib.sha256()
        async with http.stream("GET", f"/documents/{document_id}/content", headers=ada.auth) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_bytes():
                digest.update(piece)
        return digest.hexdigest()

    assert set(await asyncio.gather(*(fetched() for _ in range(200)))) == {hashlib.sha256(content).hexdigest()}
    assert memory_mib(api) - before < 120, "a chunk for each of those let in, not for each who asks"


def memory_mib(pid: int) -> float:
    """The peak of resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
