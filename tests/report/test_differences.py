"""Arms are compared pair by pair: the same seeds, the same judged images, an interval that says what it covers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from issl_engine.report.answers_file import as_json, read_answers
from issl_engine.report.compare import compare_runs
from issl_engine.report.differences import (
    all_differences,
    difference,
    differences_to_show,
    gain_over_untrained,
    meaning_of_differences,
)
from issl_engine.report.read_json import ReportError
from issl_engine.report.run_folder import Run, load_run
from issl_engine.report.statistics import Summary, summarise
from issl_engine.report.table import print_table
from issl_engine.report.write import write_report

from .run_folders import make_run

COUNT = 400


def right(share: float, seed: int, *, like: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Answers of which some are right; most as ``like``."""
    random = np.random.default_rng(seed)
    own_N = random.random(COUNT) < share
    return own_N if like is None else np.where(random.random(COUNT) < 0.9, like, own_N)


def answer(run: Path, place: str, right_N: NDArray[np.bool_], judged: str = "the test images") -> None:
    """The linear probe's answers and number of a folder below the run."""
    folder = run / place
    results = json.loads((folder / "probes.json").read_text())
    for one in results:
        one["num_split_images"] = COUNT
        if one["probe"] == "linear":
            one["value"] = 100 * float(right_N.mean())
    (folder / "probes.json").write_text(json.dumps(results))
    (folder / "answers.json").write_text(json.dumps(as_json({"linear": right_N}, judged=judged)))


def one_seed(folder: Path) -> tuple[Path, NDArray[np.bool_], NDArray[np.bool_]]:
    run = make_run(folder, {"a": 60.0, "b": 70.0}, seeds=[0])
    a_N = right(0.6, 1)
    b_N = right(0.9, 2, like=a_N)
    answer(run, "a/seed0", a_N)
    answer(run, "b/seed0", b_N)
    return run, a_N, b_N


def of(run: Run, first: str, second: str, column: int = 0):
    arms = {arm.name: arm for arm in run.arms}
    return difference(arms[first], arms[second], run.plain_columns[column])


def test_several_seeds_are_a_paired_t_test(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, seeds=[0, 1, 2, 3])
    for seed, value in enumerate((61.0, 64.0, 60.5, 62.0)):
        results = json.loads((folder / "a" / f"seed{seed}" / "probes.json").read_text())
        results[0]["value"] = value
        (folder / "a" / f"seed{seed}" / "probes.json").write_text(json.dumps(results))
    found = of(load_run(folder), "b", "a")
    values = np.array([70, 71, 72, 73]) - np.array([61.0, 64.0, 60.5, 62.0])
    low, high = stats.ttest_rel([70, 71, 72, 73], [61.0, 64.0, 60.5, 62.0]).confidence_interval(0.95)
    assert found.summary is not None
    assert found.summary.mean == pytest.approx(values.mean())
    assert found.summary.ends == pytest.approx((low, high))
    assert (found.seeds, found.covers) == ((0, 1, 2, 3), "seeds")
    assert found.text == f"+{values.mean():.1f} ± {(high - low) / 2:.1f}"
    assert of(load_run(folder), "a", "b").summary.mean == pytest.approx(-values.mean())


def test_one_seed_is_a_paired_bootstrap_over_images(tmp_path: Path) -> None:
    folder, a_N, b_N = one_seed(tmp_path / "run")
    found = of(load_run(folder), "b", "a")
    random = np.random.default_rng(3)
    drawn = random.integers(COUNT, size=(4000, COUNT))
    expected = np.percentile(100 * (b_N[drawn].mean(1) - a_N[drawn].mean(1)), (2.5, 97.5))
    assert found.summary is not None
    assert found.summary.mean == pytest.approx(100 * (b_N.mean() - a_N.mean()))
    assert found.summary.ends == pytest.approx(expected, abs=0.4)
    assert (found.seeds, found.covers) == ((0,), "images")
    # Unpaired it would be twice as wide: most answers agree.
    unpaired = np.hypot(a_N.std(), b_N.std()) * 100 / np.sqrt(COUNT)
    assert (found.summary.ends[1] - found.summary.ends[0]) / 2 < 0.6 * 1.96 * unpaired
    assert found.text.startswith("+")
    assert "[" in found.text


def test_the_gain_over_the_untrained_encoder_is_paired_too(tmp_path: Path) -> None:
    folder, a_N, _ = one_seed(tmp_path / "run")
    (control,) = (folder / "controls" / "seed0").glob("untrained-*")
    floor_N = right(0.3, 5)
    answer(folder, str(control.relative_to(folder)), floor_N)
    run = load_run(folder)
    gain = gain_over_untrained(run.arms[0], run.plain_columns[0])
    assert gain.covers == "images"
    assert gain.summary is not None
    assert gain.summary.mean == pytest.approx(100 * (a_N.mean() - floor_N.mean()))
    several = load_run(make_run(tmp_path / "several", {"a": 60.0}))
    assert gain_over_untrained(several.arms[0], several.plain_columns[0]).text == "+21.0 ± 2.5"


def test_run_folders_without_answers_have_differences_without_an_interval_at_one_seed(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, seeds=[0]))
    found = of(run, "b", "a")
    assert (found.text, found.covers) == ("+10.0", "")
    assert not meaning_of_differences(all_differences(run))


def test_other_judged_images_or_other_seeds_are_not_paired(tmp_path: Path) -> None:
    folder, a_N, _ = one_seed(tmp_path / "run")
    answer(folder, "a/seed0", a_N, judged="other images")
    found = all_differences(load_run(folder))
    assert [one.text for one in found] == ["–", "–"]
    assert meaning_of_differences(found) == ["not paired, judged on other images: b - a"]
    first = make_run(tmp_path / "first", {"a": 60.0}, seeds=[0])
    second = make_run(tmp_path / "second", {"b": 70.0}, seeds=[1])
    assert meaning_of_differences(all_differences(compare_runs([first, second]))) == [
        "not paired, no seed has both: b - a"
    ]


def test_only_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", {"a": 60.0}, seeds=[0, 1, 2])
    second = make_run(tmp_path / "second", {"b": 70.0}, seeds=[1, 2, 5])
    found = all_differences(compare_runs([first, second]))[0]
    assert found.seeds == (1, 2)
    assert found.summary is not None
    assert found.summary.mean == pytest.approx(10)


def test_pairs_stand_with_the_better_arm_first_and_many_arms_against_the_best(tmp_path: Path) -> None:
    few = load_run(make_run(tmp_path / "few", {"a": 60.0, "b": 70.0, "c": 65.0}, seeds=[0]))
    linear = few.plain_columns[:1]
    assert [f"{one.first} - {one.second}" for one in all_differences(few, linear)] == ["b - c", "b - a", "c - a"]
    assert differences_to_show(few) == all_differences(few)
    many = load_run(make_run(tmp_path / "many", {f"arm{n}": 60.0 + n for n in range(7)}, seeds=[0]))
    shown = differences_to_show(many)
    assert {one.first for one in shown} == {"arm6"}
    assert len(shown) == 6 * 2
    assert len(all_differences(many)) == 21 * 2


def test_terminal_page_and_csv_show_the_same_differences(tmp_path: Path) -> None:
    folder, a_N, b_N = one_seed(tmp_path / "run")
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(load_run(folder), console)
    text = of(load_run(folder), "b", "a").text
    shown = console.export_text()
    assert "b - a" in shown
    assert text in shown
    assert "it covers other images, not other seeds" in shown
    page = write_report(folder).read_text()
    assert f">{text}<" in page
    assert '<section id="differences"' in page
    with (folder / "differences.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["arm"], line["minus"], line["probe"]) for line in lines] == [("b", "a", "linear"), ("b", "a", "knn")]
    assert float(lines[0]["difference"]) == pytest.approx(100 * (b_N.mean() - a_N.mean()), abs=1e-3)
    assert (lines[0]["interval_covers"], lines[0]["degrees_of_freedom"], lines[0]["seeds"]) == ("images", "", "0")
    assert float(lines[0]["interval_low"]) < float(lines[0]["difference"]) < float(lines[0]["interval_high"])


def test_one_arm_has_no_differences(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0, 1])
    assert '<section id="differences"' not in write_report(folder).read_text()
    assert (folder / "differences.csv").read_text().count("\n") == 1


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_answers_come_back_bit_for_bit(tmp_path: Path, count: int) -> None:
    right_N = np.random.default_rng(count).random(count) < 0.5
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(as_json({"linear": right_N}, judged="x")))
    answers = read_answers(path)
    assert answers is not None
    found_N = answers.right_N("linear")
    assert found_N is not None
    assert np.array_equal(found_N, right_N)
    assert answers.right_N("knn") is None
    assert path.stat().st_size < 100 + count / 5


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"judged": "x", "count": 9, "right": {"linear": "AA=="}}',
     '{"judged": "x", "count": 8, "right": {"linear": "%"}}', '{"judged": "x", "count": 8, "right": 3}'],
)  # fmt: skip
def test_damaged_answers_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "answers.json").write_text(content)
    with pytest.raises(ReportError, match=r"answers\.json: the file is damaged"):
        read_answers(tmp_path / "answers.json")


def test_intervals_of_percentages_end_at_their_limits_and_say_so() -> None:
    values = [97.0, 99.5, 100.0]
    free, cut = summarise(values), summarise(values, (0.0, 100.0))
    assert free.ends is not None
    assert free.ends[1] > 100
    assert cut.ends == (free.ends[0], 100.0)
    assert free.text(1) == f"{free.mean:.1f} ± {free.half_width:.1f}"
    assert cut.text(1) == f"{cut.mean:.1f} [{free.ends[0]:.1f}, 100.0]"
    assert summarise([50.0, 52.0], (0.0, 100.0)).text(1) == "51.0 ± 12.7"
    assert Summary(mean=1.25, half_width=0.5, count=3).text(1, signed=True) == "+1.2 ± 0.5"


@pytest.mark.parametrize("count", [2, 31, 32, 33, 50, 200])
def test_students_t_is_exact_for_any_number_of_seeds(count: int) -> None:
    values = [50 + np.sin(i) for i in range(count)]
    _, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    assert summarise(values).half_width == pytest.approx(high - np.mean(values), rel=1e-9)
