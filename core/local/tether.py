"""Become the program that a spec file describes, and end with the parent: `python -I -S tether.py SPEC.json`.

The spec is a JSON object: `argv`, `env` (added to the environment), `cwd`, `output` (a file or a FIFO for
stdout and stderr) and `lock` (held, shared, until the program is gone).
"""

import ctypes
import fcntl
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PARENT = "DOSSIER_TETHER_PARENT"


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the call above; nobody would ever end us then.
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):
        sys.exit("the parent process is gone")
    os.environ[_PARENT] = str(os.getpid())


def _join(lock: str) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)


def _redirect(output: str) -> None:
    # Without O_NONBLOCK a FIFO that nobody reads any more would hold us here for ever.
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)
    for target in (1, 2):
        os.dup2(descriptor, target)
    os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def main(spec_path: str) -> None:
    """Tie this process to its parent, then replace it by the program."""
    _end_with_parent()
    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    _join(spec["lock"])
    _redirect(spec["output"])
    os.chdir(spec["cwd"])
    # Python ignores SIGPIPE and hands that down; servers expect the default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(spec["argv"][0], spec["argv"], os.environ | spec["env"])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
