"""Choosing TCP ports on this machine."""

import os
import random
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from core.local.folder import LocalStackError, Log, silent, try_lock

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


class Ports:
    """Chooses ports and keeps them from other stacks of this user until `close`.

    A server that is being restarted does not listen for a moment. A stack that started just then could take its port,
    and clients of the one would write into the other's database.
    """

    def __init__(self) -> None:
        self._kept = ExitStack()

    def close(self) -> None:
        self._kept.close()

    def any(self) -> int:
        """A port for a test server."""
        for port in random.sample(_TEST_PORTS, _NEIGHBOURS):
            if self._take(port):
                return port
        raise LocalStackError(f"no free port among {_NEIGHBOURS} tried in {_TEST_PORTS}")

    def near(self, wanted: int, *, part: str, log: Log = silent) -> int:
        """`wanted` or the next free port after it: only the stack itself connects to an embedded server."""
        for port in range(wanted, wanted + _NEIGHBOURS):
            if self._take(port):
                if port != wanted:
                    log("port_taken", part=part, port=wanted, used=port)
                return port
        raise LocalStackError(f"no free port for {part} from {wanted} to {wanted + _NEIGHBOURS - 1}")

    def _take(self, port: int) -> bool:
        folder = Path(tempfile.gettempdir()) / f"dossier-ports-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            # No place to note it: what listens is all that can be known.
            return is_free(port)
        if try_lock(descriptor) and is_free(port):
            self._kept.callback(os.close, descriptor)
            return True
        os.close(descriptor)
        return False
