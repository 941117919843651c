"""Keeping a long-lived process small: memory that was used once goes back to the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 1_048_576


def release_freed_memory() -> None:
    """Asks glibc for two arenas in all threads and to give back large pieces; elsewhere it does nothing.

    By itself it would keep one arena per thread, and hold what one password hash or one piece of a file has needed.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        for name, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, LARGE_BYTES), (M_TRIM_THRESHOLD, LARGE_BYTES)):
            if mallopt is not None:
                mallopt(name, value)
