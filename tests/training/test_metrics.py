"""metrics.jsonl after a kill: whole lines up to the checkpoint stay, torn ones go, and a kill meanwhile loses none."""

import json
from pathlib import Path

import pytest

from issl_engine.training.metrics import MetricsLog

WHOLE = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in (1, 2, 3)]


@pytest.mark.parametrize("torn", ['{"step": 4, "lo', "12", "null", '{"loss": 1}', '{"step": "', "\0\0\0\0", "\udcff"])
def test_a_torn_line_is_dropped(torn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("".join([*WHOLE, torn]).encode("utf-8", errors="surrogateescape"))
    caplog.set_level("INFO", logger="issl_engine")
    MetricsLog(tmp_path, resume_step=2).close()
    assert path.read_text() == "".join(WHOLE[:2])
    assert "dropped a line that an interruption left half written" in caplog.text


def test_a_kill_while_lines_are_dropped_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(WHOLE))

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("issl_engine.whole_file.os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        MetricsLog(tmp_path, resume_step=2)
    assert path.read_text() == "".join(WHOLE)
