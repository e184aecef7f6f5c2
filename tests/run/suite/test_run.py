"""A suite from end to end on tiny images: what is done, how often, and what results say."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_engine.models.encoders.base import Encoder
from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.suite import Suite
from issl_engine.run.suite.files import suite_folder, write_outcome
from issl_engine.run.suite.robustness import summarised
from issl_engine.run.suite.run import SuiteOutcome, run_suite
from issl_engine.run.suite.subject import Subject
from issl_engine.sources.base import SourceError
from issl_engine.sources.shapes import ShapesConfig
from issl_engine.weights.open_encoder import OpenedEncoder, weights_digest

pytestmark = pytest.mark.usefixtures("own_cache")

SHAPES = {"name": "shapes", "num_train": 40, "num_test": 20, "num_classes": 4, "image_size": 16}


class Counting(Encoder):
    """Local colours through a fixed matrix, and how many images went through."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.seen = 8, 0
        self.linear = nn.Linear(48, 8, bias=False)
        nn.init.orthogonal_(self.linear.weight)

    def blocks(self) -> list[nn.Module]:
        return [self.linear]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        self.seen += len(images_NCHW)
        return self.linear(nn.functional.adaptive_avg_pool2d(images_NCHW, 4).flatten(1))


def suite(**keys) -> Suite:
    return Suite.model_validate({"name": "mine", "probes": [{"name": "nearest_mean"}, {"name": "knn"}]} | keys)


def run(
    one: Suite, tmp_path: Path, *, encoder: Counting | None = None, folder: Path | None = None, overrides=(), cache=True
) -> tuple[SuiteOutcome, int]:
    """The outcome, and how many images went through the encoder."""
    torch.manual_seed(0)
    network = Counting() if encoder is None else encoder
    recipe = load_recipe(
        "smoke", [f"source={json.dumps(SHAPES)}", "evaluation={resize: 16, crop: 16}", *overrides], ["dissl"]
    ).arms["dissl"]
    opened = OpenedEncoder(
        encoder=network, name="n", digest=weights_digest(network), recipe=recipe, seed=0, config=recipe.encoder,
        image_size=16, preprocessing=recipe.preprocessing, layout="checkpoint",
    )  # fmt: skip
    subject = Subject.of(
        one, opened, recipe, seed=0, device=torch.device("cpu"),
        cache=FeatureCache(folder=tmp_path / "features") if cache else None,
    )  # fmt: skip
    before = network.seen
    write = write_outcome(folder, encoder="n", suite=one.name, command="issl-engine probe n")
    outcome = run_suite(one, [subject], recipe.source, folder=folder, on_part=write)
    return outcome, network.seen - before


def named(outcome: SuiteOutcome) -> list[tuple[str, str, str]]:
    return [(result.probe, result.setting, result.metric) for result in outcome.results]


def test_a_second_call_does_nothing_and_another_encoder_everything(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first, seen = run(suite(), tmp_path, folder=folder)
    assert seen == 60
    again, seen = run(suite(), tmp_path, folder=folder)
    assert (again, seen) == (first, 0)
    other = Counting()
    nn.init.constant_(other.linear.weight, 0.5)
    changed, seen = run(suite(), tmp_path, folder=folder, encoder=other)
    assert seen == 60
    assert changed != first


def test_other_probes_take_the_features_that_are_there(tmp_path: Path) -> None:
    run(suite(), tmp_path)
    outcome, seen = run(suite(probes=[{"name": "ridge"}]), tmp_path)
    assert seen == 0
    assert {result.probe for result in outcome.results} == {"ridge"}
    assert run(suite(), tmp_path, cache=False)[1] == 60


def test_robustness_judges_the_clean_fit_on_every_corruption(tmp_path: Path) -> None:
    corruptions = {"kinds": ["contrast", "jpeg"], "strengths": [1, 5]}
    outcome, seen = run(suite(corruptions=corruptions), tmp_path, folder=tmp_path / "out")
    assert seen == 60 + 4 * 20
    settings = list(dict.fromkeys(result.setting for result in outcome.results))
    assert settings == ["", "contrast 1", "contrast 5", "jpeg 1", "jpeg 5", "all corruptions"]
    clean = {result.probe: result for result in outcome.results if not result.setting}
    for result in outcome.results:
        assert result.chosen == clean[result.probe].chosen
        if result.setting in settings[1:5]:
            assert result.setting in result.preprocessing
    knn = {(result.setting, result.metric): result.value for result in outcome.results if result.probe == "knn"}
    mean = np.mean([knn[(setting, "top1")] for setting in settings[1:5]])
    assert knn[("all corruptions", "mean_corruption_error")] == pytest.approx(100 - mean)
    assert knn[("all corruptions", "relative_drop")] == pytest.approx(100 * (1 - mean / knn[("", "top1")]))


def test_corrupted_images_are_those_that_judge_also_when_they_are_held_out(tmp_path: Path) -> None:
    """At almost no corruption the numbers are almost the clean ones, which other images would not give."""
    one = suite(corruptions={"kinds": ["gaussian_blur"], "strengths": [1]}, probes=[{"name": "nearest_mean"}])
    overrides = ["evaluation={resize: 16, crop: 16, report_on: held_out, held_out_fraction: 0.3}"]
    outcome, seen = run(one, tmp_path, overrides=overrides)
    clean, blurred = outcome.results[:2]
    assert (clean.split, blurred.split) == ("held_out", "held_out")
    assert clean.num_split_images == blurred.num_split_images == 12
    assert seen == 40 + 12
    assert blurred.value == clean.value


def test_transfer_names_each_source_and_leaves_out_the_optional_that_are_missing(tmp_path: Path) -> None:
    sources = [
        {"setting": "others", "source": SHAPES | {"seed": 7}},
        {"setting": "gone", "optional": True, "source": {"name": "mnist", "folder": str(tmp_path / "nowhere")}},
    ]
    outcome, seen = run(suite(own_source=False, sources=sources), tmp_path)
    assert seen == 60
    assert {setting for _, setting, _ in named(outcome)} == {"others"}
    assert list(outcome.left_out) == ["gone"]
    assert "nowhere" in outcome.left_out["gone"]
    sources[1]["optional"] = False
    with pytest.raises(SourceError, match=r"source 'gone' of the suite: .*nowhere"):
        run(suite(own_source=False, sources=sources), tmp_path)


def test_fine_tuning_gives_a_result_a_share_and_leaves_the_encoder(tmp_path: Path) -> None:
    tuning = {"epochs": 1, "lrs": [0.01], "label_fractions": [0.5, 1.0], "batch_size": 8}
    network = Counting()
    before = network.linear.weight.clone()
    outcome, _ = run(suite(probes=[], fine_tuning=tuning), tmp_path, encoder=network)
    assert named(outcome) == [("fine_tuning", "50 % of labels", "top1"), ("fine_tuning", "", "top1")]
    assert [result.num_train_images for result in outcome.results] == [20, 40]
    assert torch.equal(network.linear.weight, before)


def test_what_is_done_is_kept_when_a_later_part_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [{"setting": "others", "source": SHAPES | {"seed": 7}}]
    original = ShapesConfig.load

    def load(self: ShapesConfig):
        if self.seed == 7:
            raise SourceError("unplugged")
        return original(self)

    monkeypatch.setattr(ShapesConfig, "load", load)
    folder = tmp_path / "out"
    with pytest.raises(SourceError, match="unplugged"):
        run(suite(sources=sources), tmp_path, folder=folder)
    assert len(json.loads((folder / "probes.json").read_text())) == 2
    monkeypatch.setattr(ShapesConfig, "load", original)
    outcome, seen = run(suite(sources=sources), tmp_path, folder=folder, cache=False)
    assert seen == 60, "only the other source's images"
    assert len(outcome.results) == 4


@pytest.mark.parametrize(
    "damage", ["", "{", '{"format": 1, "results": 3}', '{"format": 1, "results": {"parts/probes": 3}}']
)
def test_a_damaged_record_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "out"
    first, _ = run(suite(), tmp_path, folder=folder)
    (folder / "kept.json").write_text(damage)
    assert run(suite(), tmp_path, folder=folder)[0] == first


def test_the_csv_says_what_each_number_is(tmp_path: Path) -> None:
    outcome, _ = run(suite(), tmp_path, folder=tmp_path / "out")
    with (tmp_path / "out" / "probes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["probe"] for line in lines] == ["nearest_mean", "knn"]
    for line, result in zip(lines, outcome.results, strict=True):
        assert float(line["value"]) == pytest.approx(result.value, abs=1e-4)
        assert float(line["interval_low"]) <= float(line["value"]) <= float(line["interval_high"])
        assert line["command"] == "issl-engine probe n"
        assert line["suite"] == "mine"
        assert line["date"]


def test_a_probe_that_learns_nothing_has_no_relative_drop() -> None:
    clean = ProbeResult(
        probe="p", metric="top1", value=0.0, split="test", num_train_images=1, num_split_images=1, held_out_value=0.0
    )
    corrupted = [
        ProbeResult(
            probe="p", metric="top1", value=value, split="test", num_train_images=1, num_split_images=1,
            held_out_value=0.0, setting=f"jpeg {strength}",
        )
        for strength, value in ((1, 0.0), (2, 50.0))
    ]  # fmt: skip
    assert [(one.metric, one.value) for one in summarised([clean], corrupted)] == [("mean_corruption_error", 75.0)]


def test_results_lie_beside_the_checkpoint(tmp_path: Path) -> None:
    step = tmp_path / "run" / "dissl" / "seed0" / "checkpoints" / "step_8"
    step.mkdir(parents=True)
    arm = step.parents[1]
    assert suite_folder(str(arm), suite()) == arm / "suite_mine"
    assert suite_folder(str(step), suite()) == arm / "suite_mine_step_8"
    assert suite_folder("timm:resnet 50", suite()) == Path("runs/timm_resnet_50/suite_mine")
