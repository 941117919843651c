"""From upload to result on real parts, started as an operator starts them."""

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from core.ids import random_token
from tests.clients import PASSWORD, Person, problem
from tests.corpus import docxs, pdfs
from tests.integration.running import ROOT, Running, free_port, wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(
        tmp_path_factory.mktemp("stack"), free_port(), PROCESSING_LEASE_SECONDS="2", RECONCILE_INTERVAL_SECONDS="1"
    )
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
async def http(stack: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.base, timeout=30) as client:
        yield client


@pytest.fixture
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, f"ada-{random_token(48)}@example.com")


async def processed(person: Person, content: bytes, filename: str) -> str:
    document = await person.uploaded(content, filename)
    answer = await person.post(f"/documents/{document['document_id']}/process")
    assert answer.status_code == 202
    return str(document["document_id"])


async def test_the_words_of_a_pdf_are_in_its_result(ada: Person) -> None:
    content, texts = pdfs.known_words(30)
    document_id = await processed(ada, content, "thirty.pdf")
    status = await ada.ended(document_id)
    assert (status["status"], status["progress"], status["error"]) == ("COMPLETED", 100, None)
    result = (await ada.get(f"/documents/{document_id}/result")).json()
    assert result["processor"]["name"] == "extract"
    assert (result["partial"], result["warnings"]) == (False, [])
    assert result["result"]["page_count"] == 30
    assert [page["number"] for page in result["result"]["pages"]] == list(range(1, 31))
    assert result["result"]["text"].split("\f") == texts
    assert (await ada.get(f"/documents/{document_id}/result/text")).text.split("\f") == texts
    thumbnail = await ada.get(f"/documents/{document_id}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/webp"
    assert thumbnail.content[8:12] == b"WEBP"


async def test_the_words_of_a_docx_are_in_its_result(ada: Person) -> None:
    words = ["first known paragraph", "zweiter Absatz mit Ümlaut", "third one"]
    document_id = await processed(ada, docxs.docx(words), "letter.docx")
    assert (await ada.ended(document_id))["status"] == "COMPLETED"
    result = (await ada.get(f"/documents/{document_id}/result")).json()["result"]
    assert (result["kind"], result["page_count"], result["pages"]) == ("docx", None, [])
    assert all(word in result["text"] for word in words)
    problem(await ada.get(f"/documents/{document_id}/thumbnail"), 404, "thumbnail_missing")


async def test_simulate_reports_progress_and_may_fail(ada: Person) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]))
    path = f"/documents/{document['document_id']}"
    body = {"processor": "simulate", "options": {"duration_seconds": 2}}
    assert (await ada.post(f"{path}/process", json=body)).status_code == 202
    assert (await ada.ended(document["document_id"]))["status"] == "COMPLETED"
    assert (await ada.get(f"{path}/result")).json()["result"]["mock"] is True

    failing = {"processor": "simulate", "options": {"duration_seconds": 0, "fail": True}, "force": True}
    assert (await ada.post(f"{path}/process", json=failing)).json()["attempt"] == 2
    failed = await ada.ended(document["document_id"])
    assert (failed["status"], failed["error"]["code"], failed["error"]["retryable"]) == ("FAILED", "internal", True)


@pytest.mark.parametrize(
    ("content", "filename", "code"),
    [
        (b"%PDF-1.7\nstartxref\n0\n%%EOF", "a.pdf", "document_corrupt"),
        (pdfs.encrypted(user="secret"), "a.pdf", "document_encrypted"),
        (pdfs.recursive_form(), "a.pdf", "memory_limit"),
    ],
)
async def test_a_hostile_file_fails_with_its_code_and_the_worker_lives(
    stack: Running, ada: Person, content: bytes, filename: str, code: str
) -> None:
    def workers() -> set[int]:
        return {process.pid for process in stack.find("documents,pipelines")}

    before = workers()
    failed = await ada.ended(await processed(ada, content, filename))
    assert (failed["status"], failed["error"]["code"]) == ("FAILED", code)
    assert (await ada.ended(await processed(ada, pdfs.pdf(["good"]), "good.pdf")))["status"] == "COMPLETED"
    assert workers() == before


async def test_a_document_survives_the_death_of_its_worker(stack: Running, ada: Person) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]))
    path = f"/documents/{document['document_id']}"
    body = {"processor": "simulate", "options": {"duration_seconds": 3}}
    await ada.post(f"{path}/process", json=body)

    def readers() -> list[psutil.Process]:
        return stack.find("child.py")

    wait_until(readers, 10, "the reading child starts")
    for reader in readers():
        psutil.Process(reader.ppid()).kill()  # the Celery child that holds the run
    ended = await ada.ended(document["document_id"], within_s=30)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)


async def test_cancelling_frees_the_document_and_the_worker(stack: Running, ada: Person) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]))
    path = f"/documents/{document['document_id']}"
    await ada.post(f"{path}/process", json={"processor": "simulate", "options": {"duration_seconds": 60}})
    wait_until(lambda: stack.find("child.py"), 10, "the reading child starts")
    cancelled = (await ada.post(f"{path}/cancel")).json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("FAILED", "cancelled")
    wait_until(lambda: not stack.find("child.py"), 2, "the reading child is gone")


async def test_a_signed_link_leads_to_the_bytes(http: httpx.AsyncClient, ada: Person) -> None:
    content = pdfs.pdf(["linked"])
    document = await ada.uploaded(content, "ä.pdf")
    link = (await ada.get(f"/documents/{document['document_id']}/content-url")).json()["url"]
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(link)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].startswith("attachment;")
    ranged = await ada.get(f"/documents/{document['document_id']}/content", headers={"Range": "bytes=5-9"})
    assert (ranged.status_code, ranged.content) == (206, content[5:10])


async def test_a_dead_part_comes_back(stack: Running, ada: Person) -> None:
    for words in (("mongod",), ("redis-server",), ("juicefs",), ("documents,pipelines",), ("beat",), ("--role", "api")):
        before = stack.find(*words)
        assert before, words
        before[0].kill()
        wait_until(
            lambda before=before, words=words: (
                any(found.pid != before[0].pid for found in stack.find(*words)) and stack.ready()
            ),
            30,
            f"{words} is restarted",
        )
    wait_until(lambda: len(stack.find("documents,pipelines")) > 1, 20, "the worker has its children")
    assert (await ada.ended(await processed(ada, pdfs.pdf(["after"]), "a.pdf")))["status"] == "COMPLETED"


async def test_everything_is_there_after_a_restart_and_nothing_is_left_running(stack: Running, ada: Person) -> None:
    content, texts = pdfs.known_words(3)
    document_id = await processed(ada, content, "kept.pdf")
    await ada.ended(document_id)
    ours = stack.descendants()
    assert stack.stop(signal.SIGINT) == 0
    assert not psutil.wait_procs(ours, timeout=5)[1]

    stack.start()
    assert (await ada.get(f"/documents/{document_id}/content")).content == content
    assert (await ada.get(f"/documents/{document_id}/result")).json()["result"]["text"].split("\f") == texts


async def test_what_is_printed_is_json_and_tells_what_happened_but_no_secret(stack: Running, ada: Person) -> None:
    document_id = await processed(ada, pdfs.pdf(["confidential words"]), "told.pdf")
    await ada.ended(document_id)
    await ada.get(f"/documents/{document_id}/content-url")
    await ada.call("DELETE", f"/documents/{document_id}")
    wanted = ["uploaded", "process_started", "process_completed", "deleted", "removed"]

    def told() -> list[str]:
        return [event["event"] for event in stack.events() if event.get("document_id") == document_id]

    wait_until(lambda: told() == wanted, 15, f"{wanted}")
    for event in stack.events():
        assert {"ts", "level", "event", "service"} <= set(event)
    requests = [event for event in stack.events() if event["event"] == "request"]
    assert {"request_id", "method", "path", "route", "status", "duration_ms", "principal"} <= set(requests[-1])
    printed = "\n".join(stack.lines)
    tokens = [ada.tokens["access_token"], ada.tokens["refresh_token"]]
    secrets = [PASSWORD, *tokens, "confidential words", "X-Amz-Signature"]
    secrets += [line.split("=", 1)[1] for line in (stack.data_dir / "local.env").read_text().splitlines()]
    for secret in secrets:
        assert secret not in printed


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "main.py", "--env", "local", "--data-dir", str(tmp_path), "--port", str(port)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert str(port) in ended.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("APP_MODULES", "users,x7"),
        ("S3_ENDPOINT_URL", "ftp://x"),
        ("MAX_UPLOAD_BYTES", "-1"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)
    command = [sys.executable, "main.py", "--env", "local", "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert setting in ended.stderr
    assert value not in ended.stderr
