"""`run_stack`: real servers and dummy programs under supervisord, and any of them killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from pymongo import MongoClient
from redis import Redis

from core.local.folder import open_folder
from tests.integration.local.conftest import ROOT, Stack, eventually, is_running
from tests.integration.local.dummy_program import LINES

RunStack = Callable[..., Stack]
NAMES = {"worker", "control", "beat", "api"}


def test_sigterm_stops_programs_in_order_and_leaves_no_process(run_stack: RunStack) -> None:
    stack = run_stack()
    stack.wait_for("ready")
    pids = [line["pid"] for line in stack.wait_for("started", count=4)] + [stack.supervisor_pid()]
    stack.signal(signal.SIGTERM)
    assert stack.exit_code() == 0
    stopped = [line["name"] for line in stack.said("stopped")]
    assert stopped[:2] == ["api", "beat"]
    assert set(stopped[2:]) == {"worker", "control"}
    assert not any(is_running(pid) for pid in pids)
    assert open_folder(stack.data_dir).is_left()


def test_a_signal_before_it_is_ready_stops_it_too(run_stack: RunStack) -> None:
    stack = run_stack(servers="mongo redis s3")
    stack.wait_for("addresses")
    stack.signal(signal.SIGINT)
    assert stack.exit_code() == 0
    assert open_folder(stack.data_dir).is_left()


def test_programs_keep_environment_folder_and_whole_lines(run_stack: RunStack) -> None:
    stack = run_stack(servers="", mode="talk")
    stack.wait_for("talked", count=4)
    for line in stack.said("started"):
        assert line["greeting"] == '100% "hé" ; # \n'
        assert line["cwd"] == str(ROOT)
    for name in NAMES:
        lines = stack.said("line", name)
        assert [line["number"] for line in lines] == list(range(LINES))
        assert all(line["text"] == "ä·" * (line["number"] * 20) for line in lines)
    assert not stack.broken


def test_killed_servers_come_back_with_their_data(run_stack: RunStack) -> None:
    stack = run_stack(servers="mongo redis s3")
    stack.wait_for("ready")
    at = stack.said("addresses")[0]
    mongo = MongoClient[dict[str, Any]](at["mongo_url"], w="majority", serverSelectionTimeoutMS=1000)
    redis = Redis.from_url(at["redis_url"])
    s3 = boto3.client(
        "s3",
        endpoint_url=at["s3_endpoint_url"],
        aws_access_key_id=at["s3_access_key"],
        aws_secret_access_key=at["s3_secret_key"],
        region_name=at["s3_region"],
    )
    mongo.test.things.insert_one({"_id": "kept"})
    redis.set("alive", "yes")
    s3.put_object(Bucket=at["s3_bucket"], Key="kept", Body=b"bytes")
    for name in ("mongod", "redis", "s3"):
        killed = stack.server_pid(name)
        os.kill(killed, signal.SIGKILL)
        eventually(partial(has_changed, stack, name, killed))
    eventually(lambda: answers(lambda: mongo.test.things.insert_one({"_id": "new"}) and True))
    eventually(lambda: answers(redis.ping))
    assert {thing["_id"] for thing in mongo.test.things.find()} == {"kept", "new"}
    assert eventually(lambda: answers(lambda: s3.get_object(Bucket=at["s3_bucket"], Key="kept")["Body"].read()))
    assert {line["part"] for line in stack.wait_for("part_ended", count=3)} == {"mongod", "redis", "s3"}
    mongo.close()
    redis.close()
    s3.close()


def has_changed(stack: Stack, name: str, pid: int) -> bool:
    return stack.server_pid(name) not in (0, pid)


def answers(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception:
        return None


def test_a_killed_program_is_started_again_and_its_children_end(run_stack: RunStack) -> None:
    stack = run_stack(servers="", mode="parent")
    stack.wait_for("ready")
    first = stack.wait_for("started", "worker")[0]
    os.kill(first["pid"], signal.SIGKILL)
    second = stack.wait_for("started", "worker", count=2)[1]
    assert second["pid"] != first["pid"]
    eventually(lambda: not is_running(first["child"]))
    children = [line["child"] for line in stack.said("started")]
    stack.signal(signal.SIGTERM)
    assert stack.exit_code() == 0
    eventually(lambda: not any(map(is_running, children)), 5)


def test_a_program_that_cannot_start_is_tried_again(run_stack: RunStack) -> None:
    stack = run_stack(servers="", mode="crash")
    assert len(stack.wait_for("started", "api", count=3)) >= 3
    stack.signal(signal.SIGTERM)
    assert stack.exit_code() == 0


def test_a_second_signal_kills_what_does_not_stop(run_stack: RunStack) -> None:
    stack = run_stack(mode="stubborn")
    stack.wait_for("ready")
    pids = [line["pid"] for line in stack.wait_for("started", count=4)]
    stack.signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        stack.process.wait(1)
    stack.signal(signal.SIGINT)
    assert stack.exit_code(10) == 0
    assert not any(map(is_running, pids))


def test_nothing_survives_a_killed_control_process(run_stack: RunStack) -> None:
    stack = run_stack(servers="mongo redis s3")
    stack.wait_for("ready")
    pids = [line["pid"] for line in stack.wait_for("started", count=4)] + [stack.supervisor_pid()]
    pids += [stack.server_pid(name) for name in ("mongod", "redis", "s3")]
    assert all(map(is_running, pids))
    stack.process.kill()
    eventually(lambda: not any(map(is_running, pids)), 10)
    assert "Shutting down" in (stack.data_dir / "logs" / "mongod.log").read_text()


def test_a_new_stack_waits_for_what_a_killed_one_left(run_stack: RunStack) -> None:
    first = run_stack(servers="mongo redis s3")
    first.wait_for("ready")
    first.process.kill()
    first.process.wait()
    second = run_stack(servers="mongo redis s3")
    second.wait_for("waiting_for_earlier_stack")
    second.wait_for("ready")


def test_nothing_survives_a_killed_supervisord(run_stack: RunStack) -> None:
    stack = run_stack(servers="mongo redis s3")
    stack.wait_for("ready")
    pids = [line["pid"] for line in stack.wait_for("started", count=4)]
    os.kill(stack.supervisor_pid(), signal.SIGKILL)
    assert stack.exit_code(15) == 1
    assert not any(map(is_running, pids))
    assert stack.said("supervisor_gone")


def test_a_second_stack_on_the_same_data_folder_is_refused(run_stack: RunStack) -> None:
    stack = run_stack()
    stack.wait_for("ready")
    module = "tests.integration.local.control_process"
    second = subprocess.run(
        [sys.executable, "-m", module, str(stack.data_dir), "redis", ""],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"in use by process {stack.process.pid}" in second.stderr
    assert stack.process.poll() is None


def test_two_stacks_run_side_by_side(run_stack: RunStack, tmp_path: Path) -> None:
    stacks = [run_stack(tmp_path / name, servers="redis") for name in ("one", "two")]
    for stack in stacks:
        stack.wait_for("ready")
    first, second = (stack.said("addresses")[0]["redis_url"] for stack in stacks)
    assert first != second


def test_a_deep_data_folder_with_odd_characters_works(run_stack: RunStack, tmp_path: Path) -> None:
    deep = tmp_path / "a folder; with % and # signs?" / ("deep" * 30) / "data"
    stack = run_stack(deep, servers="mongo redis s3")
    stack.wait_for("ready")
    stack.signal(signal.SIGTERM)
    assert stack.exit_code() == 0
