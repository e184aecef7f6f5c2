"""kernels.csv and its pictures."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from issl_profiling.kernels.kernels_csv import COLUMNS, PassTime, Row, add_times, read_rows
from issl_profiling.kernels.plot import draw

TIME = PassTime(
    op="sinkhorn", case="small", size="N=64 K=32", dtype="fp32", pass_="fwd", provider="ours", median_ms=1.5,
    p20_ms=1.25, p80_ms=2.0, peak_mib=None, tflops=0.0, gb_s=12.5, floor_ms=0.5, ratio_to_floor=3.0,
)  # fmt: skip
MADE_BY = {
    "device": "2 cores of a CPU, slow", "torch": "2.13.0", "triton": "", "commit": "abc",
    "date": "2026-01-01T00:00:00+00:00", "command": "issl-engine bench kernels",
}  # fmt: skip
ROW = Row(**asdict(TIME), **MADE_BY)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    second = replace(TIME, provider="eager", pass_="both", peak_mib=0.125, floor_ms=None, ratio_to_floor=None)
    add_times(path, [TIME], MADE_BY)
    add_times(path, [second], MADE_BY)
    assert read_rows(path) == [ROW, Row(**asdict(second), **MADE_BY)]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert "pass" in COLUMNS


def test_another_header_is_refused_and_the_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("recipe,arm\n1,2\n")
    with pytest.raises(ValueError, match=r"has the columns recipe, arm, not op, case"):
        add_times(path, [TIME], MADE_BY)
    assert path.read_text() == "recipe,arm\n1,2\n"
    with pytest.raises(ValueError, match=r"has the columns"):
        read_rows(path)


def test_missing_and_empty_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*bench kernels"):
        read_rows(tmp_path / "none.csv")
    add_times(tmp_path / "empty.csv", [], MADE_BY)
    with pytest.raises(ValueError, match="has no results"):
        read_rows(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match="there is no folder"):
        add_times(tmp_path / "nowhere" / "kernels.csv", [TIME], MADE_BY)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    add_times(path, [TIME], MADE_BY)
    path.write_text(path.read_text() + "sinkhorn,small,N=1\n")
    with pytest.raises(ValueError, match="line 3"):
        read_rows(path)


def test_every_operation_gets_a_picture(tmp_path: Path) -> None:
    rows = [
        replace(ROW, op=op, case=f"{size}", size=f"N={size} K=32", provider=provider, median_ms=size / 10, pass_=name)
        for op in ("sinkhorn", "info_nce")
        for size in (64, 256)
        for provider in ("ours", "eager")
        for name in ("fwd", "both")
    ]
    written = draw([*rows, replace(ROW, floor_ms=None, peak_mib=3.0)], tmp_path / "plots")
    assert [path.name for path in written] == ["sinkhorn.png", "info_nce.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
