"""The end of a process whose main thread cannot be waited for."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

REPORT_SECONDS = 5.0
"""For telling why; the process ends in any case."""


def end_process(exit_code: int, tell: Callable[[], None]) -> NoReturn:
    """Says why, from any thread, and ends. Nothing is unwound: the main thread may hang where it holds what that would
    need."""
    end = threading.Timer(REPORT_SECONDS, os._exit, [exit_code])
    end.daemon = True
    end.start()
    try:
        tell()
        logging.shutdown()
        sys.stderr.flush()
    finally:
        os._exit(exit_code)
