"""metrics.jsonl, one object a line, TensorBoard where it is installed, and the progress line of the terminal."""

import contextlib
import importlib.util
import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from issl_engine.layout import METRICS
from issl_engine.mistakes import Mistake
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")


class MetricsLog:
    """Appends to ``folder/metrics.jsonl``; lines after ``resume_step`` belong to steps that will be done again.

    A line is there whole or not at all. Raises Mistake when it cannot be written.
    """

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        self.path = folder / METRICS
        kept = _lines_up_to(self.path, resume_step) if resume_step else []
        write_whole(self.path, "".join(kept))
        self._file = self.path.open("ab", buffering=0)  # nothing is held back: closing it can fail no more
        self._tensorboard = _tensorboard_writer(folder)

    def write(self, record: dict[str, Any]) -> None:
        size = self._file.tell()
        line = memoryview(json.dumps(record).encode() + b"\n")
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise Mistake(
                f"{self.path}: the line of step {record['step']} could not be written ({error.strerror}), and training "
                "stops; free space or mend the folder, then the same command goes on from the last checkpoint"
            ) from error
        if self._tensorboard is not None:
            for key, value in record.items():
                if key != "step":
                    self._tensorboard.add_scalar(key, value, record["step"])

    def close(self) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lines_up_to(path: Path, step: int) -> list[str]:
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        step_of_line = _step_of(line)
        if step_of_line is None:
            _log.info("%s: dropped a line that an interruption left half written", path)
        elif step_of_line <= step:
            kept.append(line + "\n")
    return kept


def _step_of(line: str) -> int | None:
    """The step that a line is of, or None where it is torn."""
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _tensorboard_writer(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
