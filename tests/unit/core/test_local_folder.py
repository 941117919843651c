"""The data folder and the ports of a local stack."""

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from core.local.folder import LocalStackError, held, open_folder
from core.local.ports import Ports, is_free, require_free
from core.local.servers import last_words


def test_a_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "some" / "data")
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert folder.log_file("mongod") == folder.root / "logs" / "mongod.log"


def test_a_folder_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(LocalStackError, match=r"cannot use the data folder .*data: ") as error:
        open_folder(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_a_held_folder_is_refused_and_then_free_again(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    refused = pytest.raises(LocalStackError, match=f"in use by process {os.getpid()}: ")
    with held(folder), refused, held(folder):
        pass
    with held(folder):
        pass


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    log_file = folder.log_file("redis")
    folder.rotate_log("redis")
    log_file.touch()
    os.truncate(log_file, 30 * 1024 * 1024)
    folder.rotate_log("redis")
    assert not log_file.exists()
    assert (tmp_path / "logs" / "redis.log.1").stat().st_size == 30 * 1024 * 1024


def test_a_taken_port_is_refused_or_passed_over() -> None:
    said = []
    with closing(Ports()) as ports, socket.create_server(("127.0.0.1", ports.any())) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(LocalStackError, match=f"port {port} on 127.0.0.1 is taken: .*--port"):
            require_free(port)
        near = ports.near(port, part="Redis", log=lambda event, **fields: said.append((event, fields)))
    assert port < near < port + 100
    assert said == [("port_taken", {"part": "Redis", "port": port, "used": near})]
    require_free(port)


def test_a_port_belongs_to_one_stack_even_while_nothing_listens_there() -> None:
    with closing(Ports()) as ports:
        port = ports.any()
        with closing(Ports()) as others:
            assert others.near(port, part="Redis") != port
    with closing(Ports()) as others:
        assert others.near(port, part="Redis") == port


def test_the_last_words_of_a_server_are_its_last_fault(tmp_path: Path) -> None:
    log_file = tmp_path / "mongod.log"
    assert last_words(log_file) == "no log"
    log_file.write_text('{"s":"I", "msg":"start"}\n{"s":"E", "msg":"locked"}\n{"s":"I", "msg":"end"}\n')
    assert last_words(log_file) == '{"s":"E", "msg":"locked"}'
    log_file.write_text("one\ntwo\n\n")
    assert last_words(log_file) == "two"
