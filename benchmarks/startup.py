"""How long `main.py --env local` needs until it is ready, and what each of its processes keeps in memory."""

from collections import Counter
from pathlib import Path

import psutil

from benchmarks.stack import Server, family, free_port


def start_up(folder: Path) -> None:
    """Prints both: of a first start on an empty folder, and of one on what that has left."""
    folder.mkdir()
    for which in ("empty folder", "warm"):
        port = free_port()
        command = ["main.py", "--env", "local", "--data-dir", str(folder), "--port", str(port)]
        with Server(command, {"LOG_FORMAT": "json"}, port) as everything:
            print(f"\n--env local, {which}: ready after {everything.ready_s:.1f} s, {everything.cpu_s():.1f} s of CPU")
            sizes = [(_name(process), process.memory_info()) for process in family(everything.process.pid)]
    count = Counter(name for name, _ in sizes)
    print("MiB resident when ready (a child shares what it has not changed with its parent):")
    for name in sorted(count):
        mine = ", ".join(f"{info.rss / 2**20:.0f}" for other, info in sizes if other == name)
        print(f"  {name:<28}{mine}")


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    role = words[words.index("--role") + 1] if "--role" in words else ""
    if "--queues" in words:
        role += " " + words[words.index("--queues") + 1]
    return role or process.name()
