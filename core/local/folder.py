"""The data folder of a local stack: its places, and who may use it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Log = Callable[..., object]
"""Called as `log("event_name", field=value, …)`; a structlog method fits."""

_LEFTOVER_SECONDS = 60.0
_LOG_BYTES = 20 * 1024 * 1024


class LocalStackError(Exception):
    """The local stack cannot run; the message is one line for the person at the terminal."""


def silent(_event: str, **_fields: object) -> None:
    """A `Log` that says nothing."""


@dataclass(frozen=True)
class DataFolder:
    """Where one stack keeps its data; `open_folder` makes it."""

    root: Path

    @property
    def run(self) -> Path:
        """Files that mean something only while the stack runs."""
        return self.root / "run"

    @property
    def members_lock(self) -> Path:
        """Held, shared, by every program of the stack: it is free when none is left."""
        return self.run / "members.lock"

    def log_file(self, name: str) -> Path:
        """Where a server writes its log."""
        return self.root / "logs" / f"{name}.log"

    def rotate_log(self, name: str) -> None:
        """Set a log aside that has grown large."""
        path = self.log_file(name)
        with suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))

    def is_left(self) -> bool:
        """No program of a stack uses this folder any more."""
        with self.members_lock.open("a") as file:
            return try_lock(file.fileno())

    def wait_until_left(self, seconds: float) -> bool:
        """Give the programs of a stack time to end."""
        deadline = time.monotonic() + seconds
        while not self.is_left():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def open_folder(path: Path) -> DataFolder:
    """The data folder at `path`, made if need be and proved writable."""
    folder = DataFolder(path.expanduser().resolve())
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("run", "logs"):
            (folder.root / name).mkdir(mode=0o700, exist_ok=True)
        folder.members_lock.touch(mode=0o600)
        os.listdir(folder.root)
    except OSError as error:
        raise LocalStackError(f"cannot use the data folder {folder.root}: {error.strerror}") from error
    return folder


@contextmanager
def held(folder: DataFolder, log: Log = silent) -> Iterator[None]:
    """Keep the folder for this process; refused while another stack, or what is left of one, uses it."""
    with (folder.run / "control.lock").open("a+") as control:
        if not try_lock(control.fileno()):
            control.seek(0)
            raise LocalStackError(
                f"the data folder {folder.root} is in use by process {control.read().strip() or '?'}: "
                "stop it, or choose another folder with --data-dir"
            )
        control.truncate(0)
        control.write(f"{os.getpid()}\n")
        control.flush()
        _wait_for_leftovers(folder, log)
        yield


def _wait_for_leftovers(folder: DataFolder, log: Log) -> None:
    """After a kill -9 of a stack its programs need a moment to end; two sets of them would spoil the data."""
    if folder.is_left():
        return
    log("waiting_for_earlier_stack", data_dir=str(folder.root))
    if not folder.wait_until_left(_LEFTOVER_SECONDS):
        raise LocalStackError(f"programs of an earlier stack still run on the data folder {folder.root}")


def try_lock(descriptor: int) -> bool:
    """Lock an open file for us alone, unless somebody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
