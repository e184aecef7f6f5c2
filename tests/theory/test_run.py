"""Each experiment in seconds: everything is tried, nothing is learnt."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.objectives.byol import BYOLConfig
from issl_engine.objectives.cissl import CISSLConfig
from issl_engine.recipe.load import load_config
from issl_engine.theory.etf import geometry
from issl_engine.theory.overlap import estimate_classes
from issl_engine.theory.points import Point, unit_of
from issl_engine.theory.pretraining import PretrainingConfig, encode, pretrain
from issl_engine.theory.run import run_experiment
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.theory.verdicts import judge
from issl_engine.theory.world import WorldConfig, draw_world

TINY = [
    "seeds=[3,4]", "world={kinds: 2, sizes: 1, hues: 2, train_images: 8, test_images: 4}", "encoder.width=2",
    "pretraining={steps: 2, batch_size: 8}", "max_labelings=5",
]  # fmt: skip
EXPERIMENTS = {
    "dimension": (["experiment.dims=[2,3]"], {"worst_error", "mean_error", "probe_gap"}),
    "heads": (
        ["experiment={name: heads, dims: [2, 4], mlp_hidden_dim: 4, mlp_steps: 2}"],
        {
            "worst_error_linear",
            "mean_error_linear",
            "probe_gap_linear",
            "worst_error_mlp",
            "mean_error_mlp",
            "probe_gradient_mlp",
        },
    ),
    "coarseness": (
        ["experiment={name: coarseness, keeps: [[kind], [kind, hue]], labelled_images: [2, 6], draws: 2, dim: 4}"],
        {"accuracy", "probe_gap"},
    ),
    "ceiling": (
        ["experiment.dim=4"],
        {"worst_error", "mean_error", "probe_gap", "cosine_within", "cosine_between_mean", "cosine_between_max"},
    ),
    "gap": (
        ["experiment={name: gap, dim: 4, steps: [1, 2], batches: 2}"],
        {"loss", "loss_of_etf", "loss_gap", "worst_error", "mean_error", "probe_gap"},
    ),
    "necessity": (
        ["experiment.changed_views=[0,1]"],
        {"worst_error", "worst_error_seen", "worst_error_mlp", "tasks_solved", "probe_gap"},
    ),
}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--quiet", *map(str, arguments)])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_writes_a_line_per_point_and_seed_and_draws_them(name: str, tmp_path: Path) -> None:
    overrides, metrics = EXPERIMENTS[name]
    result = call("theory", "run", f"theory/{name}", *TINY, *overrides, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    written = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    lines = [line for line in written if not line["verdict"]]
    assert {line["metric"] for line in lines} == metrics
    assert {line["seed"] for line in lines} == {"3", "4"}
    keys = [(line["series"], line["x"], line["metric"], line["seed"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert all(line["date"] and line["device"] and line["num_classes"] == "4" for line in written)
    for line in lines:
        assert line["unit"] == unit_of(line["metric"])
        if name == "ceiling" and line["series"] == "ETF of M(X), by hand" and line["unit"] == "percent":
            assert float(line["value"]) == 0
        if line["metric"].startswith("probe_gap"):
            assert 0 <= float(line["value"]) <= 1e-6
    claims = [line for line in written if line["verdict"]]
    assert claims
    for line in claims:
        assert line["verdict"] in {"supported", "refuted", "not settled"}
        assert line["rule"].startswith("interval ")
        assert f"VERDICT {line['verdict'].upper()}: {line['series']} [{line['metric']}: " in result.stdout
    assert (tmp_path / "out" / "plot.svg").read_text().rstrip().endswith("</svg>")
    assert (tmp_path / "out" / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "out" / "results.csv") in result.stdout


def test_pretraining_separates_the_classes_of_its_augmentations_and_views_show_how_many() -> None:
    config = WorldConfig(kinds=1, sizes=1, hues=4, train_images=24, test_images=48)
    world = draw_world(config, 0)
    classes = world.classes(("hue",))
    encoder = pretrain(
        world.train, classes, encoder=SmallResNetConfig(width=4, dim=8),
        objective=CISSLConfig(temperature=0.5, hidden_dim=32, projection_dim=16),
        pretraining=PretrainingConfig(steps=60, batch_size=32, lr=2e-2), image_size=config.image_size, seed=0,
    )  # fmt: skip
    representations = encode(encoder, world.test)
    found = geometry(representations, classes[world.test.finest])
    assert found.within > 0.8
    assert found.between_mean < -0.2
    # Twelve images per class, of four views each: the classes that training made are found without labels.
    views = torch.nn.functional.normalize(representations, dim=1).reshape(48, 4, -1)
    assert estimate_classes(views, None, num_images=48).estimate == 4


def test_an_objective_with_an_ema_teacher_is_trained_as_well() -> None:
    world = draw_world(WorldConfig(kinds=2, sizes=1, hues=2, train_images=4, test_images=4), 0)
    encoder = pretrain(
        world.train, world.classes(("kind", "hue")), encoder=SmallResNetConfig(width=2, dim=4),
        objective=BYOLConfig(hidden_dim=8, projection_dim=4), pretraining=PretrainingConfig(steps=2, batch_size=4),
        image_size=16, seed=0,
    )  # fmt: skip
    assert encode(encoder, world.test).isfinite().all()


def test_a_loss_that_is_not_finite_names_what_to_lower() -> None:
    world = draw_world(WorldConfig(kinds=2, sizes=1, hues=2, train_images=4, test_images=4), 0)
    world.train.images_FnCHW.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the loss of cissl became nan; lower pretraining\.lr"):
        pretrain(
            world.train, world.classes(("kind",)), encoder=SmallResNetConfig(width=2, dim=4), objective=CISSLConfig(),
            pretraining=PretrainingConfig(steps=1, batch_size=4), image_size=16, seed=0,
        )  # fmt: skip


def test_the_claims_of_width_are_decided_by_their_numbers() -> None:
    recipe, _ = load_config(TheoryRecipe, "theory/dimension")
    points = [
        Point(series="cissl", x=x, metric="worst_error", seed=seed, value=value + 0.1 * seed)
        for x, value in ((5, 30.0), (6, 20.0), (7, 1.0), (16, 0.0))
        for seed in (0, 1, 2)
    ]
    found = [judge(claim) for claim in recipe.experiment.claims(recipe.setup, points)]
    assert [one.decision for one in found] == ["supported"] * 3
    assert [one.mean for one in found] == pytest.approx([20.1 - 12.5, 1.1, 19.0])
    assert "at d = 7 >= C - 1 every invariant task is linear" in found[1].claim.sentence
    raised = [replace(point, value=point.value + 5) if point.x == 7 else point for point in points]
    assert [judge(claim).decision for claim in recipe.experiment.claims(recipe.setup, raised)][1] == "refuted"


def points_of(path: Path) -> list[tuple[str, ...]]:
    rows = csv.DictReader((path / "results.csv").open())
    return [(row["series"], row["x"], row["metric"], row["seed"], row["value"]) for row in rows]


def test_a_finished_seed_is_kept_and_two_processes_measure_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issl_engine.environment.git_commit", lambda: "0123456789ab")
    recipe, text = load_config(TheoryRecipe, "theory/dimension", (*TINY, "experiment.dims=[2]"))
    whole = run_experiment(recipe, text, tmp_path / "one", command="c")
    run_experiment(recipe, text, tmp_path / "two", command="c", jobs=2)
    assert points_of(tmp_path / "two") == points_of(tmp_path / "one")
    (tmp_path / "one" / "seeds" / "seed3.json").unlink()
    measured: list[int] = []
    monkeypatch.setattr(
        "issl_engine.theory.seeds.draw_world", lambda config, seed: measured.append(seed) or draw_world(config, seed)
    )
    again = run_experiment(recipe, text, tmp_path / "one", command="c")
    assert measured == [3]
    assert [point.seed for point in again.points] == [point.seed for point in whole.points]
    assert again.points == whole.points
    changed, _ = load_config(TheoryRecipe, "theory/dimension", (*TINY, "experiment.dims=[2]", "pretraining.steps=1"))
    run_experiment(changed, text, tmp_path / "one", command="c")
    assert measured == [3, 3, 4]  # other settings: nothing kept is taken


COARSENESS = "experiment={name: coarseness, keeps: [[%s], [kind, hue]], labelled_images: [2, %d]}"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("experiment.dimms=[2]", "experiment.dimms: unknown key; did you mean 'dims'?"),
        ("experiment.dims=[0]", "experiment.dims.0: must be at least 1, not 0"),
        ("experiment.name=dimensions", "unknown experiment 'dimensions'; did you mean 'dimension'?"),
        ("world.kinds=12", "world.kinds: must be at most 10, not 12"),
        ("objectives=[]", "objectives: this experiment trains encoders, so it needs at least one objective"),
        ("experiment={name: gap, steps: [5, 9]}", "experiment.steps: must rise to pretraining.steps (200), not [5, 9]"),
        ("seeds=[1,1]", "seeds must differ, not [1, 1]"),
        ("experiment.dims=[4,2,4]", "experiment.dims: the values must differ, not [4, 2, 4]"),
        ("objectives=[{name: simclr}, {name: simclr}]", "objectives: two are called 'simclr' in tables and plots"),
        (COARSENESS % ("hue", 4), "experiment.keeps: the task is the kind"),
        (COARSENESS % ("kind", 4000), "4000 are more than the world's 1024 training images"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, sentence: str, tmp_path: Path) -> None:
    result = call("theory", "run", "theory/dimension", override, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("gap", ["objectives=[{name: vicreg}]"], "objectives.0: the loss of vicreg on the ETF is not known"),
        ("gap", ["objectives=[{name: dissl, num_classes: 12}]"], "must be a multiple of the world's 8 classes"),
        ("necessity", ["world.train_images=100"], "more than 512 take minutes; lower it"),
        ("coarseness", ["experiment.labelled_images=[32,64]"], "the claims are of up to 16 labels"),
    ],
)
def test_an_experiment_refuses_what_it_cannot_measure(
    name: str, overrides: list[str], sentence: str, tmp_path: Path
) -> None:
    result = call("theory", "run", f"theory/{name}", *overrides, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_an_experiment_is_no_recipe_and_validates_all_the_same() -> None:
    refused = call("show", "theory/heads")
    assert refused.exit_code == 1
    assert "this is an experiment, not a recipe; run it with 'issl-engine theory run theory/heads'" in refused.stderr
    valid = call("validate", "theory/heads", "--json")
    assert json.loads(valid.stdout) == [
        {"recipe": "theory/heads", "valid": True, "arms": ["heads"], "seeds": list(range(20))}
    ]
