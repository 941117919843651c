"""Stands in for main.py: `-m …control_process DATA_DIR SERVERS MODE`; prints JSON lines."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from core.local.folder import LocalStackError
from core.local.launch import Program
from core.local.stack import Addresses, Embedded, run_stack

DUMMY = Path(__file__).with_name("dummy_program.py")


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, "name": "local", **fields}), flush=True)


def main(data_dir: str, servers: str, mode: str) -> int:
    def programs(addresses: Addresses) -> Sequence[Program]:
        say("addresses", **vars(addresses))
        orders = {"worker": 10, "control": 10, "beat": 20, "api": 30}
        return [
            Program(
                name,
                [sys.executable, str(DUMMY), name, mode],
                order,
                env={"GREETING": '100% "hé" ; # \n'},
                stop_seconds=60,
            )
            for name, order in orders.items()
        ]

    try:
        return run_stack(
            Path(data_dir),
            embedded=Embedded(mongo="mongo" in servers, redis="redis" in servers, s3="s3" in servers),
            programs=programs,
            is_ready=lambda: True,
            on_ready=lambda: say("ready"),
            log=say,
        )
    except LocalStackError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
