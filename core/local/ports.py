"""Choosing TCP ports on this machine."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.local.folder import LocalStackError, Log

# Below the range from which systems take ports for outgoing connections: none of those gets in between.
_TEST_PORTS = range(20000, 30000)
_NEIGHBOURS = 100


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(port: int, *, host: str = "127.0.0.1", setting: str = "--port") -> None:
    """Refuse a port on which something else listens, naming the setting that changes it."""
    if not is_free(port, host):
        raise LocalStackError(f"port {port} on {host} is taken: stop what listens there or change {setting}")


def free_port() -> int:
    """A port for a test server."""
    for port in random.sample(_TEST_PORTS, _NEIGHBOURS):
        if is_free(port):
            return port
    raise LocalStackError(f"no free port among {_NEIGHBOURS} tried in {_TEST_PORTS}")


@contextmanager
def choosing_ports() -> Iterator[None]:
    """One stack at a time: two that start together would choose the same ports before they listen on them."""
    path = Path(tempfile.gettempdir()) / f"dossier-ports-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def port_near(wanted: int, *, part: str, log: Log) -> int:
    """`wanted` or the next free port after it: only the stack itself connects to an embedded server."""
    for port in range(wanted, wanted + _NEIGHBOURS):
        if is_free(port):
            if port != wanted:
                log("port_taken", part=part, port=wanted, used=port)
            return port
    raise LocalStackError(f"no free port for {part} from {wanted} to {wanted + _NEIGHBOURS - 1}")
