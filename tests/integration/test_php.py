"""The PHP examples for real: PHPUnit, Laravel's own test bench, and a PHP host that receives a scan."""

import http.client
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from core.security.local_secrets import local_secrets
from core.security.signing import new_secret, sign, signing_key
from tests.clients import PASSWORD
from tests.integration.running import ROOT, Running, free_port, wait_until

PHP, LARAVEL = ROOT / "examples/php", ROOT / "examples/laravel"
GUIDE = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/integrating.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
PREVIOUS = new_secret(b"o" * 32)
CALLBACK, WEBHOOK = "/callbacks/dossier", "/webhooks/dossier"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", autouse=True)
def _php() -> None:
    """PHP is one of the servers that this suite needs: without it the run fails."""
    needed = """foreach (["curl", "mbstring", "pdo_sqlite"] as $one) extension_loaded($one) || exit(1);
        foreach (["Illuminate", "GuzzleHttp"] as $one) stream_resolve_include_path("$one/autoload.php") || exit(1);"""
    there = shutil.which("phpunit") and shutil.which("php") and subprocess.call(["php", "-r", needed]) == 0
    assert there, "PHP is not there, or not all of it: `sudo make php` installs it (Debian, Ubuntu; else see Makefile)"


def phpunit(folder: Path, *arguments: str, **env: str) -> int:
    """How many tests passed; anything else that happened fails."""
    ran = subprocess.run(
        ["phpunit", *arguments], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    passed = re.search(r"^OK \((\d+) tests?, \d+ assertions?\)$", ran.stdout, re.MULTILINE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert passed is not None, ran.stdout
    return int(passed[1])


def test_every_file_parses() -> None:
    files = sorted(str(path) for path in (*PHP.rglob("*.php"), *LARAVEL.rglob("*.php")))
    assert len(files) > 15
    for path in files:
        checked = subprocess.run(["php", "-l", path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_the_php_verifier_agrees_with_ours() -> None:
    vectors = json.loads((PHP / "tests/vectors.json").read_text("utf-8"))
    assert phpunit(PHP, "--testsuite", "unit") > len(vectors)


def test_the_laravel_example_does_what_it_says() -> None:
    assert phpunit(LARAVEL) >= 16


@dataclass
class Receiver:
    """`php -S` with the example's receiver."""

    port: int
    receipts: Path
    data_dir: Path
    secrets: Mapping[str, str]

    def post(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
        connection.close()
        return status, json.loads(text)

    def callback(
        self, body: bytes, message_id: str, *, secret: str = "", token: str = "", at: float | None = None
    ) -> tuple[int, dict[str, Any]]:
        key = signing_key(secret or self.secrets["SCAN_SIGNING_SECRET"])
        headers = sign([key], message_id, int(time.time() if at is None else at), body)
        return self.post(CALLBACK, {**headers, "Private-Token": token or self.secrets["PRIVATE_TOKENS"]}, body)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    port, folder = free_port(), tmp_path_factory.mktemp("php")
    receipts, data_dir = folder / "receipts.sqlite", folder / "data"
    secrets = local_secrets(data_dir)  # those that Dossier will find there
    settings = {
        "DOSSIER_TOKEN": secrets["PRIVATE_TOKENS"], "DOSSIER_SECRET": secrets["SCAN_SIGNING_SECRET"],
        "DOSSIER_SECRET_PREVIOUS": PREVIOUS, "DOSSIER_WEBHOOK_SECRET": PREVIOUS, "RECEIPTS": str(receipts),
    }  # fmt: skip
    command = ["php", "-q", "-S", f"127.0.0.1:{port}", "public/receive.php"]
    with open(receipts.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, cwd=PHP, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port), 10, "the PHP receiver does not listen")
        yield Receiver(port, receipts, data_dir, secrets)
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/")
        return connection.getresponse().status == 404
    except OSError:
        return False
    finally:
        connection.close()


def test_the_php_host_takes_what_we_sign_once(receiver: Receiver) -> None:
    body = '{"type":"scan.batch","correlation_id":"c","documents":[{"path":"Über.pdf"}]}'.encode()
    assert receiver.callback(body, "msg_1") == (200, {"received": True, "duplicate": False})
    assert receiver.callback(body, "msg_1") == (200, {"received": True, "duplicate": True})
    assert receiver.callback(body, "msg_2", secret=PREVIOUS) == (200, {"received": True, "duplicate": False})


def test_the_php_host_refuses_what_we_would_refuse(receiver: Receiver) -> None:
    body = b'{"type":"scan.batch","correlation_id":"c"}'
    foreign = new_secret(b"f" * 32)
    assert receiver.callback(body, "msg_3", token="wrong") == (401, {"code": "api_key_invalid"})
    assert receiver.callback(body, "msg_3", secret=foreign) == (401, {"code": "signature_invalid"})
    assert receiver.callback(body, "msg_3", at=time.time() - 310) == (401, {"code": "signature_expired"})
    assert receiver.callback(body, "msg.3") == (401, {"code": "signature_invalid"})
    assert receiver.callback(b"\xff\xfe", "msg_3") == (400, {"code": "malformed_request"})
    token = {"Private-Token": receiver.secrets["PRIVATE_TOKENS"]}
    assert receiver.post(CALLBACK, token, body) == (401, {"code": "signature_invalid"})
    assert receiver.callback(body, "msg_3") == (200, {"received": True, "duplicate": False})


def test_a_webhook_needs_no_token_but_the_secret_of_its_endpoint(receiver: Receiver) -> None:
    body = b'{"type":"document.completed","timestamp":"2026-01-31T10:00:00Z","data":{"document_id":"doc_1"}}'
    good = sign([signing_key(PREVIOUS)], "evt_1", int(time.time()), body)
    of_scans = sign([signing_key(receiver.secrets["SCAN_SIGNING_SECRET"])], "evt_2", int(time.time()), body)
    assert receiver.post(WEBHOOK, of_scans, body) == (401, {"code": "signature_invalid"})
    assert receiver.post(WEBHOOK, good, body) == (200, {"received": True, "duplicate": False})


@dataclass
class Dossier:
    """Started as docs/integrating.md says, on ports of its own."""

    running: Running
    ports: Mapping[str, int]  # of the guide => of this test

    @property
    def s3_url(self) -> str:
        found = (process.environ().get("S3_ENDPOINT_URL") for process in self.running.descendants())
        return next(url for url in found if url)

    def adapted(self, command: str) -> str:
        for port, ours in self.ports.items():
            command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
        return command.replace("http://127.0.0.1:9100", self.s3_url).replace(".data/", f"{self.running.data_dir}/")


@pytest.fixture(scope="module")
def dossier(receiver: Receiver) -> Iterator[Dossier]:
    port = free_port()
    found = Dossier(Running(receiver.data_dir, port), {"8000": port, "8081": free_port(), "8082": free_port()})
    settings = dict(re.findall(r"^([A-Z_]+)='?(.*?)'? \\$", GUIDE[0], re.MULTILINE))
    for number, ours in found.ports.items():
        settings = {name: value.replace(f":{number}", f":{ours}") for name, value in settings.items()}
    callbacks = json.loads(settings["SCAN_CALLBACKS"]) | {"php": f"http://127.0.0.1:{receiver.port}{CALLBACK}"}
    found.running = Running(receiver.data_dir, port, **settings | {"SCAN_CALLBACKS": json.dumps(callbacks)})
    found.running.start()
    try:
        yield found
    finally:
        assert found.running.stop() == 0


def test_php_works_with_a_running_dossier_and_receives_a_scan(receiver: Receiver, dossier: Dossier) -> None:
    _register(dossier.running)
    _put_files(dossier)
    tests = phpunit(
        PHP, "--testsuite", "live", DOSSIER_URL=dossier.running.base, DOSSIER_TOKEN=receiver.secrets["PRIVATE_TOKENS"],
        DOSSIER_EMAIL="php@example.com", DOSSIER_PASSWORD=PASSWORD, DOSSIER_SOURCE="s3://dossier/php-host/",
        DOSSIER_CALLBACK="php", RECEIPTS=str(receiver.receipts),
    )  # fmt: skip
    assert tests == 4


def test_every_command_of_the_guide_works(dossier: Dossier, tmp_path: Path) -> None:
    commands = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *GUIDE[1:]]
    printed = tmp_path / "printed"
    with open(printed, "wb") as file:
        script = dossier.adapted("\n".join(commands))
        code = subprocess.call(["timeout", "60", "bash", "-c", script], cwd=ROOT, stdout=file, stderr=file)
    text = printed.read_text()
    assert code == 0, text
    for found in ("scan.batch", "scan.completed", "signature_invalid", '"received":true', "document.completed"):
        assert found in text


def _register(running: Running) -> None:
    body = json.dumps({"email": "php@example.com", "password": PASSWORD}).encode()
    request = urllib.request.Request(
        f"{running.base}/auth/register", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201


def _put_files(dossier: Dossier) -> None:
    """Into the embedded S3, as a host would."""
    client = boto3.client(
        "s3",
        endpoint_url=dossier.s3_url,
        aws_access_key_id="dossier",
        aws_secret_access_key=local_secrets(dossier.running.data_dir)["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    for name in ("one/a.pdf", "one/b.pdf", "two/a.pdf", "two/b.pdf", "three/a.pdf"):
        client.put_object(Bucket="dossier", Key=f"php-host/{name}", Body=b"%PDF-1.4")
