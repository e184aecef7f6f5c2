"""A search from end to end through the command line, once with real trials and else with quick ones."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.search.outcome import Outcome, write_outcome
from issl_engine.sources.base import Dataset
from issl_engine.sources.shapes import ShapesConfig
from issl_engine.training.watch.interruption import Interrupted


def call(*arguments: str | Path, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "search.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Unreadable:
    """A test split that raises as soon as anything is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was read ({name})")

    def __len__(self) -> int:
        raise AssertionError("the test split was counted")


@pytest.fixture
def no_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ShapesConfig.load

    def without(config: ShapesConfig) -> Dataset:
        return replace(load(config), test=Unreadable())  # type: ignore[arg-type]

    monkeypatch.setattr(ShapesConfig, "load", without)
    monkeypatch.setattr("issl_engine.run.dataset._datasets", {})


SMOKE = ("search", "smoke", "source.num_test=48")


def test_real_trials_of_all_arms(tmp_path: Path, no_test_split: None) -> None:
    """Also with evaluation.report_on=test in the recipe: a search never reads that split. A trial whose loss is not
    finite counts, and the others go on."""
    ranges = "arms.simclr.search.ranges={optimizer.lr: [1e30, 2e30]}"
    arguments = (*SMOKE, ranges, "--trials", "2", "--out", tmp_path, "evaluation.report_on=test")
    shown = call(*arguments).stdout
    found = lines(tmp_path)
    assert [(line["arm"], line["trial"], line["status"]) for line in found] == [
        ("simclr", "0", "finished"), ("simclr", "1", "failed"), ("dissl", found[2]["trial"], "finished"),
        ("dissl", found[3]["trial"], "finished"),
    ]  # fmt: skip
    assert "the loss is nan" in found[1]["reason"]
    assert all(line["held_out_images"] == "26" for line in found if line["status"] == "finished")
    assert "each arm: 2 trials with 1 seed [0], 1 epochs on the same images" in shown
    assert "the test split was not read" in shown
    probes = json.loads((tmp_path / "dissl" / "trial001" / "dissl" / "seed0" / "probes.json").read_text())
    assert {one["split"] for one in probes} == {"held_out"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert call(*arguments).stdout == shown
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    chosen = load_recipe(tmp_path / "chosen.yaml").arms
    assert chosen["dissl"].evaluation.report_on == "test"
    assert (tmp_path / "search.svg").read_text().count("<svg") == 1


def test_the_chosen_recipe_runs(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    quick(lambda recipe: recipe.optimizer.lr)
    call(*SMOKE, "--trials", "4", "--out", tmp_path)
    shown = call("run", tmp_path / "chosen.yaml", "--out", tmp_path / "run", "--arm", "dissl", "--json").stdout
    assert json.loads(shown)["status"] == "finished"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``quick(score, stop_at=None)``: trials end at once, with ``score(recipe)`` (None: failed) as the number of every
    seed. Returns the list of those that are run, as it grows."""

    def install(score: Callable[[Recipe], float | None], stop_at: str | None = None) -> list[str]:
        run: list[str] = []

        def fake(arm: str, recipe: Recipe, folder: Path, ranks: Any, **_: Any) -> Outcome:
            if folder.name == stop_at:
                raise Interrupted("stopped")
            assert recipe.evaluation.report_on == "held_out"
            assert len(recipe.probes) == 1
            run.append(f"{arm}/{folder.name}")
            value = score(recipe)
            outcome = Outcome(reason="the loss is not finite")
            if value is not None:
                outcome = Outcome(
                    probe="knn", metric="top1", values={str(seed): value for seed in recipe.seeds}, mean=value,
                    num_images=26,
                )  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
            write_outcome(folder, recipe, outcome)
            return outcome

        monkeypatch.setattr("issl_engine.search.run.run_trial", fake)
        return run

    return install


def test_a_search_that_is_stopped_goes_on(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    first = quick(lambda recipe: 1.0, stop_at="trial002")
    call(*SMOKE, "--trials", "4", "--out", tmp_path, exit_code=75)
    assert first == ["simclr/trial000", "dissl/trial000", "simclr/trial001", "dissl/trial001"]
    second = quick(lambda recipe: 1.0)
    call(*SMOKE, "--trials", "4", "--out", tmp_path)
    assert second == ["simclr/trial002", "dissl/trial002", "simclr/trial003", "dissl/trial003"]
    third = quick(lambda recipe: 1.0)
    call(*SMOKE, "--trials", "5", "--out", tmp_path)
    assert third == ["simclr/trial004", "dissl/trial004"]
    assert len(lines(tmp_path)) == 10


def test_the_best_is_chosen_the_earlier_of_equal_ones_and_never_a_failed_one(
    tmp_path: Path, quick: Callable[..., list[str]]
) -> None:
    def score(recipe: Recipe) -> float | None:
        if recipe.objective.name == "dissl":
            return 5.0
        return None if recipe.optimizer.lr == 1e-3 else -recipe.optimizer.lr

    quick(score)
    found = json.loads(call(*SMOKE, "--trials", "8", "--out", tmp_path, "--json").stdout)
    simclr, dissl = found
    assert dissl["chosen"] == 0
    assert [one["trial"] for one in dissl["trials"]] == list(range(8))
    rates = [one["settings"]["optimizer.lr"] for one in simclr["trials"]]
    assert rates[:-1] == sorted(rates[:-1])
    assert simclr["trials"][-1]["trial"] == 0
    assert simclr["trials"][-1]["reason"] == "the loss is not finite"
    assert load_recipe(tmp_path / "chosen.yaml").arms["simclr"].optimizer.lr == rates[0]
    assert load_recipe(tmp_path / "chosen.yaml").arms["dissl"].optimizer.lr == 1e-3


def test_choices_at_an_edge_are_named(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    quick(lambda recipe: recipe.optimizer.lr)
    shown = call(*SMOKE, "--trials", "24", "--out", tmp_path, "--arm", "dissl").stdout
    said = "optimizer.lr is at the high end of 0.000125 to 0.008 (log)"
    assert said in shown
    assert said in " ".join((tmp_path / "chosen.yaml").read_text().replace("\n# ", " ").split())
    best = lines(tmp_path)[0]
    assert json.loads(best["at_edge"])["optimizer.lr"] == "high"


def test_a_chosen_recipe_is_the_users_with_few_lines_changed(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    quick(lambda recipe: recipe.optimizer.lr)
    call(*SMOKE, "training.epochs=2", "--trials", "4", "--out", tmp_path)
    text = (tmp_path / "chosen.yaml").read_text()
    header, _, rest = text.partition("\n\n")
    assert all(line.startswith("# ") for line in header.splitlines())
    for said in ("4 trials with 1 seed", "search seed 0", "objective.temperature 0.05 to 0.5 (log)", "held out"):
        assert said in " ".join(header.replace("\n# ", " ").split()), said
    from issl_engine.recipe.locate import locate

    before, after = locate("smoke").read_text().splitlines(), rest.splitlines()
    outside = [line for line in before if line not in after]
    assert outside == ["name: smoke", "    objective: {name: simclr}", "    objective: {name: dissl, num_classes: 32}"]
    arms = load_recipe(tmp_path / "chosen.yaml").arms
    assert {recipe.training.epochs for recipe in arms.values()} == {2}
    assert {recipe.source.num_test for recipe in arms.values()} == {48}  # type: ignore[attr-defined]
    assert {recipe.name for recipe in arms.values()} == {"smoke_chosen"}
    assert {recipe.seeds for recipe in arms.values()} == {(0,)}


def test_another_search_is_not_mixed_in(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    quick(lambda recipe: 1.0)
    call(*SMOKE, "--trials", "2", "--out", tmp_path)
    for change in (["--search-seed", "1"], ["search.ranges={optimizer.lr: [1, 2]}"], ["training.epochs=3"]):
        shown = call(*SMOKE, "--trials", "2", "--out", tmp_path, *change, exit_code=1).output
        assert "this folder holds another search" in shown
    again = quick(lambda recipe: 2.0)
    call(*SMOKE, "--trials", "2", "--seeds", "0,1", "--out", tmp_path)
    assert len(again) == 4


def test_a_damaged_outcome_is_looked_at_anew(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    quick(lambda recipe: 1.0)
    call(*SMOKE, "--trials", "2", "--out", tmp_path)
    (tmp_path / "dissl" / "trial001" / "trial.json").write_text("{")
    again = quick(lambda recipe: 1.0)
    call(*SMOKE, "--trials", "2", "--out", tmp_path)
    assert again == ["dissl/trial001"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["probes=[]"], "a search goes by the first"),
        (["--seeds", "0,0"], "must differ"),
        (["--ranks", "2", "--jobs", "2"], "--jobs is for one rank"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in call(*SMOKE, "--trials", "2", "--out", tmp_path, *arguments, exit_code=1).output


def test_trials_in_processes_give_what_one_after_the_other_gives(tmp_path: Path) -> None:
    arguments = (*SMOKE, "--trials", "2", "--arm", "dissl")
    call(*arguments, "--out", tmp_path / "two", "--jobs", "2")
    call(*arguments, "--out", tmp_path / "one")
    keys = ("trial", "value", "settings", "status")
    assert [[line[key] for key in keys] for line in lines(tmp_path / "two")] == [
        [line[key] for key in keys] for line in lines(tmp_path / "one")
    ]
