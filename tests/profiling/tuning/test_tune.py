"""Tuning: the largest pass that fits, settings that help, and nothing that changes what is trained unasked."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_profiling.commands.tune import TRIED_KEYS
from issl_profiling.tuning import trial
from issl_profiling.tuning.faster_settings import settings_to_try
from issl_profiling.tuning.fewest_passes import fewest_passes, possible_passes
from issl_profiling.tuning.search import TuneSettings, tune
from issl_profiling.tuning.trial import OUT_OF_MEMORY, Trial, Unfit, run_trial

MIB = 2**20
LIBRARIES = 500 * MIB


def recipe_of(*overrides: str) -> Recipe:
    return next(iter(load_recipe("smoke", ("training.global_batch_size=48", *overrides), ["simclr"]).arms.values()))


class Machine:
    """Stands in for trials: memory grows by ``an_image`` with each image of a pass, and settings cost what is said."""

    def __init__(
        self, *, memory: int | None = None, an_image: int = 10 * MIB, has_compiler: bool = True, **factors: float
    ) -> None:
        self.memory, self.an_image, self.has_compiler, self.factors = memory, an_image, has_compiler, factors
        self.calls: list[Recipe] = []

    def __call__(self, recipe: Recipe) -> Trial | Unfit:
        self.calls.append(recipe)
        training = recipe.training
        images = training.global_batch_size // training.accumulation_steps
        peak = LIBRARIES + self.an_image * images // (4 if training.activation_checkpointing else 1)
        if self.memory is not None and peak > self.memory:
            return OUT_OF_MEMORY
        seconds = 1.0 + 0.2 * training.accumulation_steps
        for key, factor in self.factors.items():
            name, _, value = key.partition("__")
            seconds *= factor if str(getattr(training, name)).lower() == value else 1
        return Trial(seconds=seconds, peak_bytes=peak, compiled=training.compile and self.has_compiler)


def settings(**changes: Any) -> TuneSettings:
    return TuneSettings(**({"ranks": 1, "limit_bytes": None, "rounds": 2} | changes))


def test_passes_are_equal_parts_of_at_least_two_images() -> None:
    assert possible_passes(48) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert possible_passes(7) == [1]
    assert possible_passes(1) == []


@pytest.mark.parametrize("limit_images", [2, 3, 7, 11, 12, 16, 24, 47, 48, 100])
def test_the_fewest_passes_that_fit_are_found_by_trying(limit_images: int) -> None:
    machine = Machine(memory=LIBRARIES + limit_images * 10 * MIB)
    found = fewest_passes(
        48, lambda count: machine(recipe_of(f"training.accumulation_steps={count}")), limit_bytes=None
    )
    assert found.count == next(count for count in possible_passes(48) if 48 // count <= limit_images)
    assert set(found.refused) <= {count for count in possible_passes(48) if count < found.count}
    assert len(machine.calls) <= 6


@pytest.mark.parametrize("limit_images", [2, 3, 7, 11, 12, 16, 24, 47, 48, 100])
def test_on_a_cpu_nothing_is_tried_that_the_line_puts_above_the_limit(limit_images: int) -> None:
    machine = Machine()
    limit = LIBRARIES + limit_images * 10 * MIB
    found = fewest_passes(
        48, lambda count: machine(recipe_of(f"training.accumulation_steps={count}")), limit_bytes=limit
    )
    assert found.count == next(count for count in possible_passes(48) if 48 // count <= limit_images)
    largest = max(48 // recipe.training.accumulation_steps for recipe in machine.calls)
    assert largest <= max(limit_images, 8), "8 images are the second of the two passes that the line is drawn by"


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"not even passes of 2 images can be trained here \(out of memory\); take"):
        tune(recipe_of(), Machine(memory=LIBRARIES), settings())


def test_settings_that_help_are_taken_together_and_the_batch_stays() -> None:
    machine = Machine(channels_last__false=0.8, compile__true=0.7, view_batching__each=1.3)
    tuned = tune(recipe_of(), machine, settings())
    assert set(tuned.overrides) == {"training.channels_last=false", "training.compile=true"}
    assert tuned.after_seconds == pytest.approx(1.2 * 0.8 * 0.7)
    assert {recipe.training.global_batch_size for recipe in machine.calls} == {48}
    assert not tuned.warnings


def test_rounds_go_through_all_settings_in_turn() -> None:
    machine = Machine()
    tune(recipe_of(), machine, settings(rounds=3, only=("training.channels_last",)))
    assert [recipe.training.channels_last for recipe in machine.calls[1:]] == [True, False] * 3


def test_what_changes_results_is_reported_and_taken_only_if_asked_for() -> None:
    machine = Machine(precision__bf16=0.5)
    tuned = tune(recipe_of(), machine, settings())
    assert tuned.overrides == ()
    assert tuned.warnings == [
        "training.precision=bf16 is 100% faster and not taken without --change-results: encoder and heads are computed "
        "in bf16"
    ]
    tuned = tune(recipe_of(), machine, settings(change_results=True))
    assert tuned.overrides == ("training.precision=bf16",)
    assert "faster and taken" in tuned.warnings[0]


def test_more_passes_than_the_recipe_s_are_reported_and_recomputing_is_tried() -> None:
    machine = Machine(memory=LIBRARIES + 24 * 10 * MIB, activation_checkpointing__true=1.1)
    tuned = tune(recipe_of(), machine, settings(only=("training.activation_checkpointing",)))
    # 1.2 s x 1.1 with all images in one pass, against 1.4 s in two.
    assert tuned.overrides == ("training.accumulation_steps=1", "training.activation_checkpointing=true")
    assert tuned.after_seconds == pytest.approx(1.32)
    (warning,) = tune(recipe_of(), machine, settings(only=("training.channels_last",))).warnings
    assert warning.startswith(
        "training.accumulation_steps=2 instead of 1 changes results: batch-norm normalises over 24"
    )
    assert warning.endswith("and losses that compare images see those of one pass")


def test_a_compiler_that_fails_is_no_gain() -> None:
    tuned = tune(recipe_of(), Machine(compile__true=0.5, has_compiler=False), settings(only=("training.compile",)))
    assert tuned.overrides == ()
    assert {one.unfit for one in tuned.timed[1:]} == {"compiling failed here"}


def test_cuda_graphs_are_tried_on_a_gpu_and_threads_on_a_cpu() -> None:
    on_gpu = {one.name for one in settings_to_try(recipe_of(), on_gpu=True, cores=16)}
    on_cpu = {one.name for one in settings_to_try(recipe_of(), on_gpu=False, cores=16)}
    assert "training.compile=true training.compile_mode=reduce-overhead" in on_gpu - on_cpu
    assert {"training.threads=8", "training.threads=16"} == on_cpu - on_gpu
    assert "data.decode_threads=16" in on_gpu & on_cpu


def test_all_keys_that_are_tried_may_be_chosen_and_no_other() -> None:
    tried = {
        override.split("=")[0]
        for on_gpu in (True, False)
        for one in settings_to_try(recipe_of(), on_gpu=on_gpu, cores=16)
        for override in one.overrides
    }
    assert tried - {"training.compile_mode"} == set(TRIED_KEYS) - {"training.activation_checkpointing"}
    result = CliRunner().invoke(main, ["tune", "smoke", "--try", "training.epochs"])
    assert result.exit_code == 2
    assert "'training.epochs' is not one of 'training.channels_last'" in result.stderr


def test_a_batch_that_ranks_cannot_share_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"global_batch_size \(48\) must be a multiple of --ranks \(5\)"):
        tune(recipe_of(), Machine(), settings(ranks=5))


def test_a_trial_measures_a_step_or_says_why_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("training.threads=1", "data.decode_threads=1")
    for overrides in (("training.global_batch_size=8", *small), ("training.global_batch_size=4096", *small)):
        asked = json.dumps({"recipe": recipe_of(*overrides).model_dump(mode="json"), "steps": 1})
        monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
        trial._main()
    measured, refused = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert 0 < measured["seconds"] < 60
    assert measured["peak_bytes"] > 100 * MIB
    assert refused["reason"].startswith("training.global_batch_size (4096) is larger than the training split")


@pytest.mark.long
def test_a_trial_trains_in_a_process_of_its_own_and_the_command_prints_what_to_run(
    tmp_path: Path,
) -> None:
    """Two processes in all: an odd batch has one way to be cut, and no other setting is tried."""
    overrides = ["training.global_batch_size=7", "training.threads=1", "data.decode_threads=1"]
    arguments = [
        "tune",
        "smoke",
        *overrides,
        "--steps",
        "1",
        "--rounds",
        "1",
        "--try",
        "training.activation_checkpointing",
    ]
    result = CliRunner().invoke(main, [*arguments, "--memory", "8", "--json", "--write", str(tmp_path / "tuned.yaml")])
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert reported["command"] == " ".join(["issl-engine", "run", "smoke", *overrides])
    assert reported["before_seconds"] > 0
    assert 100 * MIB < reported["peak_bytes"] < 4096 * MIB
    text = (tmp_path / "tuned.yaml").read_text()
    assert text.startswith("# Keys to lay over a recipe, found on ")
    assert yaml.safe_load(text) == {}


@pytest.mark.gpu
def test_on_a_gpu_memory_that_is_too_small_is_found_by_trying() -> None:
    found = run_trial(recipe_of("encoder.width=2048", "views.groups.0.size=256"), steps=1)
    assert found == OUT_OF_MEMORY
