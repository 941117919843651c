"""A processor that ends its worker process, as a parser that brings the machine down would."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any


class Poison:
    def process(self, job: Any) -> Iterator[dict[str, Any]]:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)  # the kernel ends a reader whose worker has gone
        yield {"ev": "result", "value": {}}
