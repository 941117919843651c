"""What cannot start or go on says what, where and what to do, in one line, with a code of its own and no trace."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from core import exits
from core.ids import random_token
from core.local.folder import open_folder
from core.local.programs import find_mongod
from core.local.stack import LocalServers
from tests.integration.running import ROOT, free_port, wait_until

pytestmark = pytest.mark.timeout(120)

NOBODY = "127.0.0.1:9"  # discard: nothing listens there
PASSWORD = "p4ss-of-the-url"
COMMANDS = ["--role api", "--role api --workers 2", "--role worker", "migrate", "doctor", "inventory verify"]


@dataclass
class Ended:
    """How a command ended."""

    process: "subprocess.Popen[str]"
    out: str = field(default="")
    err: str = field(default="")

    def line(self, code: int) -> str:
        """The one line that it says when it ends with this code."""
        if not self.err:
            self.out, self.err = self.process.communicate(timeout=90)
        assert self.process.returncode == code, self.err + self.out
        assert "Traceback" not in self.out + self.err
        assert PASSWORD not in self.out + self.err
        assert self.err.startswith("dossier: ")
        assert self.err.count("\n") == 1
        return self.err


Start = Callable[..., Ended]


@pytest.fixture(scope="module")
def start(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts main.py on good servers, but for what is given."""
    started: list[Ended] = []

    def run(command: str, **settings: str) -> Ended:
        env = os.environ | {
            "DATA_DIR": str(tmp_path_factory.mktemp("data")), "MONGO_URL": servers.mongo_url,
            "REDIS_URL": servers.redis_url, "S3_ENDPOINT_URL": servers.s3_endpoint_url,
            "S3_BUCKET": servers.s3_bucket, "AWS_ACCESS_KEY_ID": servers.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key, "MONGO_DB": f"e{random_token(48)}", **settings,
        }  # fmt: skip
        words = [sys.executable, "main.py", *command.split()]
        if "--role api" in command:
            words += ["--port", str(free_port())]
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(Ended(process))
        return started[-1]

    yield run
    for ended in started:
        ended.process.kill()
        with ended.process:  # closes what it wrote to
            pass


@pytest.fixture(scope="module")
def without_mongo(start: Start) -> dict[str, Ended]:
    """All of them side by side: each waits some seconds for a server that may just be late."""
    return {command: start(command, MONGO_URL=f"mongodb://ada:{PASSWORD}@{NOBODY}") for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_mongodb_it_ends_and_names_the_server(command: str, without_mongo: dict[str, Ended]) -> None:
    line = without_mongo[command].line(exits.CANNOT_GO_ON)
    assert line.startswith(f"dossier: MONGO_URL: mongodb://{NOBODY} does not answer (")


def test_a_user_whom_mongodb_does_not_know_is_told_so(start: Start, servers: LocalServers) -> None:
    url = servers.mongo_url.replace("mongodb://", f"mongodb://ada:{PASSWORD}@")
    line = start("migrate", MONGO_URL=url).line(exits.CANNOT_GO_ON)
    assert "refuses us (AuthenticationFailed); correct user and password" in line


@pytest.fixture
def lonely_mongo(tmp_path: Path) -> Iterator[int]:
    """The port of a MongoDB that is no replica set."""
    port = free_port()
    (tmp_path / "db").mkdir()
    command = [find_mongod(open_folder(tmp_path / "stack")), "--dbpath", str(tmp_path / "db"), "--port", str(port)]
    process = subprocess.Popen([*command, "--bind_ip", "127.0.0.1", "--nounixsocket"], stdout=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


def test_a_mongodb_that_stands_alone_is_refused(start: Start, lonely_mongo: int) -> None:
    line = start("--role worker", MONGO_URL=f"mongodb://127.0.0.1:{lonely_mongo}").line(exits.CANNOT_GO_ON)
    assert "transactions need a replica set" in line


def test_a_storage_that_is_away_ends_the_doctor(start: Start) -> None:
    line = start("doctor", S3_ENDPOINT_URL=f"http://{NOBODY}").line(exits.CANNOT_GO_ON)
    assert line.startswith(f"dossier: S3_ENDPOINT_URL: http://{NOBODY} does not answer (")


def test_a_bucket_that_is_not_there_is_told_from_a_storage_that_is_away(start: Start) -> None:
    assert "S3_BUCKET: " in start("doctor", S3_BUCKET="nowhere").line(exits.CANNOT_GO_ON)


def test_a_seed_without_an_api_says_so(start: Start) -> None:
    line = start(f"seed --url http://{NOBODY}").line(exits.CANNOT_GO_ON)
    assert line.startswith(f"dossier: --url: http://{NOBODY} does not answer (")


@pytest.mark.parametrize("command", ["migrate", "--role api"])
def test_an_index_that_cannot_be_built_is_named_and_no_row_is_quoted(
    start: Start, servers: LocalServers, command: str
) -> None:
    name = f"e{random_token(48)}"
    with MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
        mongo[f"{name}_users"]["users"].insert_many([{"_id": each, "email_key": "twice@example.com"} for each in "ab"])
    line = start(command, MONGO_DB=name).line(exits.CANNOT_GO_ON)
    assert line.startswith(f"dossier: {name}_users.users: MongoDB refuses the index email_key (DuplicateKey); ")
    assert "twice" not in line


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MONGO_URL", f"mongodb://ada:{PASSWORD}@one:two"),
        ("MONGO_URL", f"postgres://ada:{PASSWORD}@db"),
        ("REDIS_URL", f"http://:{PASSWORD}@redis"),
        ("BROKER_URL", PASSWORD),
    ],
)
def test_an_address_of_the_wrong_form_is_a_wrong_setting(start: Start, setting: str, value: str) -> None:
    line = start("--role worker", **{setting: value}).line(exits.BAD_SETTINGS)
    assert line.startswith(f"dossier: {setting}: ")


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_without_a_broker_worker_and_beat_wait_for_it(start: Start, role: str) -> None:
    """A broker comes back by itself; ending would only make somebody start them again."""
    waiting = start(f"--role {role}", REDIS_URL=f"redis://:{PASSWORD}@{NOBODY}", LOG_FORMAT="json")
    said: list[str] = []

    def tells() -> bool:
        assert waiting.process.stdout is not None
        said.append(waiting.process.stdout.readline())
        return "onnect" in said[-1]

    wait_until(tells, 60, "it says that it cannot connect")
    assert waiting.process.poll() is None
    assert PASSWORD not in "".join(said)
