"""Files of results: lines are added below those that are there, in the same columns, with what made them."""

import csv
import sys
from pathlib import Path

import pytest

from issl_engine.mistakes import Mistake
from issl_profiling.data.soak import SOAK_FILE
from issl_profiling.data.table import DATA_FILE
from issl_profiling.features.table import FEATURES_FILE
from issl_profiling.kernels.kernels_csv import KERNELS_FILE, read_rows
from issl_profiling.kernels.resources import RESOURCES_FILE
from issl_profiling.parity.deviation import PARITY_FILE
from issl_profiling.results_file import ResultsFile, made_by_this_run, significant
from issl_profiling.train.diagnostics_cost import DIAGNOSTICS_FILE
from issl_profiling.train.table import TRAIN_FILE

KEPT = Path(__file__).parents[2] / "profiling" / "results"
FILES = {
    "kernels.csv": KERNELS_FILE,
    "kernel_resources.csv": RESOURCES_FILE,
    "data.csv": DATA_FILE,
    "data_soak.csv": SOAK_FILE,
    "data_soak_mmap.csv": SOAK_FILE,
    "features.csv": FEATURES_FILE,
    "train.csv": TRAIN_FILE,
    "diagnostics.csv": DIAGNOSTICS_FILE,
    "parity.csv": PARITY_FILE,
}
"""File in profiling/results → what it is."""
SMALL = ResultsFile(columns=("name", "value", "device", "command"), holds="lines of this test")
MADE_BY = {"device": "a machine", "command": "issl-engine bench x", "torch": "2"}


@pytest.mark.parametrize("name", FILES)
def test_lines_are_added_to_the_files_that_are_kept(name: str, tmp_path: Path) -> None:
    path, kind, before = tmp_path / name, FILES[name], (KEPT / name).read_bytes()
    path.write_bytes(before)
    with path.open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    made_by = made_by_this_run()
    (line,) = kind.add(path, [{column: last[column] for column in kind.columns if column not in made_by}], made_by)
    assert path.read_bytes().startswith(before)
    with path.open(newline="", encoding="utf-8") as file:
        *others, added = csv.DictReader(file)
    assert len(others) == len(list(csv.DictReader(before.decode().splitlines())))
    assert tuple(added) == kind.columns
    assert added == {column: str(value) for column, value in line.items()}
    assert all(added[column] == str(made_by[column]) for column in kind.columns if column in made_by)


def test_the_kernels_kept_can_be_read() -> None:
    assert len(read_rows(KEPT / "kernels.csv")) > 50


def test_a_line_says_what_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/issl-engine", "bench", "data", "a folder"])
    made_by = made_by_this_run()
    assert made_by["command"] == "issl-engine bench data 'a folder'"
    assert made_by["device"]
    assert made_by["torch"]
    assert made_by["date"].endswith("+00:00")
    assert None not in made_by.values()


def test_lines_come_below_a_header_and_are_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.touch()
    assert SMALL.add(path, [{"name": "a", "value": 1}], MADE_BY) == [
        {"name": "a", "value": 1, "device": "a machine", "command": "issl-engine bench x"}
    ]
    SMALL.add(path, [{"name": "b", "value": None}], MADE_BY)
    assert path.read_text().splitlines() == [
        "name,value,device,command",
        "a,1,a machine,issl-engine bench x",
        "b,,a machine,issl-engine bench x",
    ]
    SMALL.replace(path, [{"name": "c", "value": 2}], MADE_BY)
    assert path.read_text().splitlines() == ["name,value,device,command", "c,2,a machine,issl-engine bench x"]


def test_a_value_without_a_column_and_a_column_without_a_value_are_defects(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        SMALL.add(tmp_path / "x.csv", [{"name": "a", "value": 1, "more": 2}], MADE_BY)
    with pytest.raises(KeyError, match="value"):
        SMALL.add(tmp_path / "x.csv", [{"name": "a"}], MADE_BY)
    assert not (tmp_path / "x.csv").exists()


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n")
    with pytest.raises(Mistake, match=r"other.csv holds something else than lines of this test: .* columns a, b, not"):
        SMALL.check_can_add(other)
    with pytest.raises(Mistake, match="is a folder; name a file"):
        SMALL.check_can_add(tmp_path)
    with pytest.raises(Mistake, match=r"there is no folder .*; make it, or name another file"):
        SMALL.check_can_add(tmp_path / "nowhere" / "x.csv")


def test_numbers_keep_their_significant_digits() -> None:
    assert (significant(1234.56), significant(0.000123456), significant(2 / 3, 6)) == (1235.0, 0.0001235, 0.666667)
