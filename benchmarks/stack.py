"""What every benchmark starts: servers as processes of their own, watched from outside."""

import importlib.metadata
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from pydantic import SecretStr

from core.config import Settings
from core.local.stack import LocalServers

ROOT = Path(__file__).parents[1]
READY_S, STOP_S, POLL_S = 60, 40, 0.05
PACKAGES = ("fastapi", "uvicorn", "pydantic", "beanie", "pymongo", "redis", "hiredis", "celery")


class Server:
    """A process that answers HTTP; the context ends it."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], port: int, path: str = "/health/ready",
        python: str = sys.executable,
    ) -> None:  # fmt: skip
        self.port, self.base, self._path = port, f"http://127.0.0.1:{port}", path
        started = time.monotonic()
        with tempfile.TemporaryFile() as said:
            self.process = subprocess.Popen(  # noqa: S603
                [python, *command], cwd=ROOT, env={**os.environ, **env},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
            while not self._is_ready():
                if self.process.poll() is not None or time.monotonic() > started + READY_S:
                    self.stop()
                    said.seek(0)
                    raise SystemExit(f"{' '.join(command)} is not ready\n{said.read().decode()[-2000:]}")
                time.sleep(POLL_S)
        self.ready_s = time.monotonic() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(STOP_S)

    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    def memory(self, name: str = "VmRSS") -> float:
        """MiB of the process itself: `VmRSS`, or `VmHWM` for its peak."""
        return memory(self.process.pid, name)

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.base + self._path, timeout=3) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


class Api(Server):
    """`main.py --role api` on the given servers, one process."""

    def __init__(self, servers: LocalServers, data_dir: Path, **settings: str) -> None:
        port = free_port()
        command = ["main.py", "--env", "local", "--role", "api", "--port", str(port)]
        super().__init__(command, {**addresses(servers), "DATA_DIR": str(data_dir), **settings}, port)


def addresses(servers: LocalServers) -> dict[str, str]:
    """Where the servers are, as settings in the environment."""
    return {
        "MONGO_URL": servers.mongo_url, "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url, "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key, "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
    }  # fmt: skip


def settings_for(servers: LocalServers, data_dir: Path, **settings: object) -> Settings:
    """The same for a container in this process."""
    given = {
        "app_env": "local", "data_dir": data_dir,
        "mongo_url": SecretStr(servers.mongo_url), "redis_url": SecretStr(servers.redis_url),
        "s3_endpoint_url": servers.s3_endpoint_url, "s3_bucket": servers.s3_bucket,
        "aws_access_key_id": servers.s3_access_key, "aws_secret_access_key": SecretStr(servers.s3_secret_key),
        **settings,
    }  # fmt: skip
    return Settings.model_validate(given)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def family(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """User and system time of a process and those below it, the ended ones it waited for included."""
    return sum(sum(process.cpu_times()[:4]) for process in family(pid))


def memory(pid: int, name: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Median [smallest..largest]."""
    ordered = sorted(values)
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(ordered), ordered[0], ordered[-1]))
    return f"{middle} [{least}..{most}]"


def surroundings(load_before: tuple[float, float, float]) -> str:
    """What a figure means nothing without."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.machine()}, Linux {platform.release()},"
        f" Python {platform.python_version()}\n{versions}\n"
        f"load {load_before[0]:.1f} before, {os.getloadavg()[0]:.1f} after;"
        f" python -m {(sys.modules['__main__'].__spec__ or sys).name} {' '.join(sys.argv[1:])}"
    )


@contextmanager
def worker(env: Mapping[str, str], slots: int) -> Iterator[subprocess.Popen[bytes]]:
    """`main.py --role worker` for documents, with so many children; what is sent before it is ready, waits."""
    command = [sys.executable, "main.py", "--env", "local", "--role", "worker", "--queues", "documents,pipelines"]
    process = subprocess.Popen(  # noqa: S603
        [*command, "--workers", str(slots)], cwd=ROOT, env={**os.environ, **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S)
