"""Whether this process has been asked to stop: long polls return and readiness says so, while requests finish."""

import signal
import threading
from types import FrameType


class Stopping:
    """Listens to SIGTERM and SIGINT beside whoever handles them."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def listen(self) -> None:
        """From the main thread of a server, after it has set its own handlers; elsewhere nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)

            def noted(number: int, frame: FrameType | None, handler: object = handler) -> None:
                self._asked = True
                if callable(handler):
                    handler(number, frame)

            if callable(handler) and handler is not signal.default_int_handler:
                signal.signal(number, noted)
