"""Stands in for a process of the application: `dummy_program.py NAME [MODE]`; prints JSON lines."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import NoReturn

LINES = 300


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, "name": sys.argv[1], **fields}), flush=True)


def stop(*_: object) -> NoReturn:
    say("stopped")
    sys.exit(0)


def talk() -> None:
    for number in range(LINES):
        line = json.dumps({"event": "line", "name": sys.argv[1], "number": number, "text": "ä·" * (number * 20)})
        stream = sys.stdout if number % 2 else sys.stderr
        stream.write(line + "\n")
        stream.flush()
    say("talked")


def main() -> None:
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else stop)
    fields: dict[str, object] = {}
    if mode == "parent":
        # A child that knows nothing of tethers, as a pool process or a converter would be.
        fields["child"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
    say("started", pid=os.getpid(), greeting=os.environ.get("GREETING"), cwd=os.getcwd(), **fields)
    if mode == "crash":
        sys.exit(3)
    if mode == "talk":
        talk()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
