"""The reading child: bounds itself, runs one job, writes NDJSON lines to stdout.

Started as `python -I -B child.py MEMORY CPU FILE SINGLE PARENT JOB` with an empty environment: bytes of
address space, seconds of CPU, bytes per written file, 1 to forbid new processes and threads, the parent's
process id, and the path of a JSON file that describes the job. Exit 71 means out of memory.

Under `-I` no folder of this project is on `sys.path`, and none is put there: a neighbour's name could shadow
a library. The readers are loaded by path, under their full names, so that their own imports find each other.
"""

import os
import resource
import sys

OUT_OF_MEMORY = 71
DESCRIPTORS = 32
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, SIGKILL = 1, 38, 9


def confine(memory: int, cpu: int, file_bytes: int, single: int, parent: int) -> None:
    """Set every limit of this process, for good; leave at once if the parent has died meanwhile."""
    if sys.platform == "linux":  # elsewhere it is refused or not enforced
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # one second between the signal that names the cause and the one nobody survives
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if single:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0):
            os._exit(1)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    confine(*map(int, sys.argv[1:6]))

# The limits above hold from here on.
import importlib  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import operator  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import cached_property  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, BinaryIO  # noqa: E402

Line = dict[str, Any]
MODULE = Path(__file__).resolve().parent.parent
SHARED = {
    "read_pdf.py": ("domain/limits.py", "adapter/plain_text.py"),
    "read_docx.py": ("domain/limits.py", "adapter/plain_text.py", "adapter/docx_archive.py"),
}


class Job:
    """The job of `domain/processors.py`, read from the job file."""

    def __init__(self, described: Line) -> None:
        self.path: str = described["path"]
        self.content_type: str = described["content_type"]
        self.options: Line = described["options"]
        self.start: int = described["start"]
        self.run_key: str = described["run_key"]
        self.workdir: str = described["workdir"]
        self._needs = [Path(folder) for folder in described["needs"]]

    def pages(self) -> Iterator[Line]:
        for folder in self._needs:
            if (folder / "pages.ndjson").exists():
                with (folder / "pages.ndjson").open("rb") as lines:
                    for line in lines:
                        yield json.loads(line)

    @cached_property
    def page_count(self) -> int:
        return sum(1 for _ in self.pages())

    def text(self) -> str:
        texts = (folder / "text.txt" for folder in self._needs)
        return "".join(path.read_text("utf-8") for path in texts if path.exists())

    def result(self, name: str) -> Line:
        value: Line = next(
            json.loads((folder / "result.json").read_bytes()) for folder in self._needs if folder.name == name
        )
        return value


def by_path(file: str) -> Any:
    """The project's module in `file`, under its full name."""
    name = "app.documents." + file.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, MODULE / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load(entry: str, site: str | None) -> Callable[[Job], Iterator[Line]]:
    """`file.py:function` of this folder, or `module:attribute` of a package installed in `site`."""
    target, _, attribute = entry.partition(":")
    if target.endswith(".py"):
        for file in SHARED.get(target, ()):
            by_path(file)
        return getattr(by_path(f"adapter/{target}"), attribute)  # type: ignore[no-any-return]
    if site is not None and site not in sys.path:
        sys.path.append(site)  # last, so that it shadows nothing
    found = operator.attrgetter(attribute)(importlib.import_module(target))
    return (found() if isinstance(found, type) else found).process  # type: ignore[no-any-return]


def lines(described: Line) -> Iterator[Line]:
    """All lines of the job, the last one is final."""
    process, handover = load(described["entry"], described["site"]), described["handover_cpu_s"]
    yield {"ev": "ready"}
    pages = None
    for line in process(Job(described)):
        yield line
        if line["ev"] == "fatal":
            return
        if line["ev"] == "open":
            pages = line["pages"]
        at_page = line["ev"] in ("page", "page_error") and pages is not None and line["number"] < pages
        if at_page and handover is not None and time.process_time() >= handover:
            yield {"ev": "handover", "next": line["number"] + 1}
            return
    yield {"ev": "done"}


def private_stdout() -> BinaryIO:
    """The pipe to the parent; what libraries print goes to stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def main(job_file: str) -> None:
    try:
        out = private_stdout()
        for line in lines(json.loads(Path(job_file).read_bytes())):
            out.write(json.dumps(line, allow_nan=False).encode("ascii") + b"\n")
            out.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # everything is said; libraries get no chance to crash while they are taken down


if __name__ == "__main__":
    main(sys.argv[6])
