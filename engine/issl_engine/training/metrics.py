"""metrics.jsonl, one object a line, TensorBoard where it is installed, and the progress line of the terminal."""

import importlib.util
import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

_log = logging.getLogger("issl_engine")


class MetricsLog:
    """Appends to ``folder/metrics.jsonl``; lines after ``resume_step`` belong to steps that will be done again."""

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        self.path = folder / "metrics.jsonl"
        kept = _lines_up_to(self.path, resume_step) if resume_step else []
        self.path.write_text("".join(kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._tensorboard = _tensorboard_writer(folder)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
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
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            _log.info("%s: dropped a line that an interruption left half written", path)
            continue
        if record["step"] <= step:
            kept.append(line + "\n")
    return kept


def _tensorboard_writer(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
