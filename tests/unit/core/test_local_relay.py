"""Lines of several programs on one stream."""

import io
import os
import threading
from pathlib import Path

from core.local.relay import LineRelay


def test_lines_of_two_writers_stay_whole(tmp_path: Path) -> None:
    out = io.BytesIO()
    relay = LineRelay(out)
    for name in "ab":
        relay.add(tmp_path / name)
    relay.start()

    def write(name: str) -> None:
        with (tmp_path / name).open("wb") as file:
            for size in range(0, 200_000, 10_000):
                file.write(name.encode() * size + b"\n")

    writers = [threading.Thread(target=write, args=[name]) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    relay.close()
    lines = out.getvalue().splitlines()
    for letter in (b"a", b"b"):
        expected = [letter * size for size in range(10_000, 200_000, 10_000)]
        assert [line for line in lines if line.startswith(letter)] == expected
    assert len(lines) == 40


def test_a_last_line_without_an_end_arrives(tmp_path: Path) -> None:
    out = io.BytesIO()
    relay = LineRelay(out)
    relay.add(tmp_path / "fifo")
    relay.start()
    (tmp_path / "fifo").write_bytes(b"whole\npart")
    relay.close()
    assert out.getvalue() == b"whole\npart"


def test_a_reader_that_left_does_not_stall_the_programs(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as nobody:
        relay = LineRelay(nobody)
        relay.add(tmp_path / "fifo")
        relay.start()
        with (tmp_path / "fifo").open("wb") as file:
            for _ in range(100):
                file.write(b"x" * 10_000 + b"\n")
        relay.close()


def test_a_relay_that_never_started_closes(tmp_path: Path) -> None:
    relay = LineRelay(io.BytesIO())
    relay.add(tmp_path / "fifo")
    relay.close()
