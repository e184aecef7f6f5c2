"""A log in a file that training outlives: a full disk ends neither the run nor fills the terminal with tracebacks."""

import contextlib
import logging
import sys
from pathlib import Path


class LogFile(logging.FileHandler):
    """Appends records with their time; what cannot be written is left out, with one warning on stderr."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._warned = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it could not be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by logging while the exception is at hand."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        with contextlib.suppress(OSError):
            self.close()  # else what it holds back would be tried again with each record; the next one opens it anew
        if not self._warned:
            self._warned = True
            print(
                f"warning: {self.baseFilename}: the log cannot be written ({error.strerror}); lines are missing there",
                file=sys.stderr,
            )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
