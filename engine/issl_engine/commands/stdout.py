"""Keeps stdout for results: what libraries print (DALI, DeepSpeed) goes to stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Until the block ends, what Python, C or a child process writes to stdout goes to stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
