"""Collapse is reported once, with what to change; a healthy run is left in peace."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from issl_engine.models.encoders.small_resnet import SmallResNet
from issl_engine.objectives.base import ObjectiveShape, Progress
from issl_engine.ranks import start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.alarms import collapse_alarm
from issl_engine.training.watch.representation_alarm import GENERAL_ADVICE, SIGNS, RepresentationAlarm

from ..conftest import SMALL_OBJECTIVES, make_recipe

HEALTHY = {
    "feature_std": 0.6, "effective_rank": 5.0, "effective_rank_share": 0.04, "used_classes_share": 0.6,
    "marginal_entropy_share": 0.95, "invariance": 0.4,
}  # fmt: skip
ILL = {
    "constant representation": {"feature_std": 0.001},
    "dimensional collapse": {"effective_rank": 2.0, "effective_rank_share": 0.008},
    "dead classes": {"used_classes_share": 0.05},
    "no invariance": {"invariance": 0.99},
}


def line(step: int, epoch: float = 5.0, **measures: float) -> dict[str, float]:
    return {"step": step, "epoch": epoch, "loss": 1.0} | {
        f"diagnostics.{name}": value for name, value in (HEALTHY | measures).items()
    }


@pytest.mark.parametrize("name", list(ILL))
def test_each_sign_is_reported_once_after_three_measurements(name: str, caplog: pytest.LogCaptureFixture) -> None:
    alarm = RepresentationAlarm("lower optimizer.lr", warmup_epochs=2)
    reported = [alarm.observe(line(step, **ILL[name])) for step in range(6)]
    assert reported == [[], [], [name], [], [], []]
    assert len(caplog.records) == 1
    assert caplog.text.count(f"step 2: {name}") == 1
    assert ("views.augmentation" if name == "no invariance" else "lower optimizer.lr") in caplog.text


def test_all_signs_are_tried() -> None:
    assert set(ILL) == {sign.name for sign in SIGNS}


def test_two_dimensions_of_few_images_are_not_judged_by_their_share() -> None:
    """The effective rank of 4 images is 3 at most."""
    alarm = RepresentationAlarm("", warmup_epochs=0)
    for step in range(6):
        assert alarm.observe(line(step, effective_rank=1.6, effective_rank_share=0.53)) == []
    assert [alarm.observe(line(step, effective_rank=1.2, effective_rank_share=0.4)) for step in range(3)][-1]


def test_nothing_is_reported_during_the_warm_up_or_after_a_single_bad_batch() -> None:
    alarm = RepresentationAlarm("", warmup_epochs=2)
    for step in range(6):
        assert alarm.observe(line(step, epoch=1.9, feature_std=0.0)) == []
    for step in range(6):
        assert alarm.observe(line(step, feature_std=0.0 if step % 3 else 0.5)) == []


def test_lines_without_measures_do_not_count() -> None:
    alarm = RepresentationAlarm("", warmup_epochs=0)
    reported = []
    for step in range(6):
        reported += alarm.observe(line(step, feature_std=0.001) if step % 2 else {"step": step, "epoch": 5.0})
    assert reported == ["constant representation"]


WEAK_VIEWS = {
    "groups": [{"count": 2, "size": 16, "area": [0.7, 1.0]}],
    "augmentation": {"flip": 0.0, "colour_jitter": None, "greyscale": 0.0},
}
"""Ones that a few steps on noisy images become invariant to."""


def reported_by_a_run(
    name: str, dataset: Dataset, folder: Path, caplog: pytest.LogCaptureFixture, *, epochs: float, **changes: Any
) -> list[str]:
    """What a real training of 5 steps per epoch, which measures at every step, says of its representation."""
    settings = {"diagnostics": {"every_steps": 1}, "online_probe": None, "checkpoint": {"every_epochs": 100}}
    training = {"epochs": epochs, "global_batch_size": 8, "log_every_steps": 1, "threads": 1}
    recipe = make_recipe(name, **({"training": training, "views": WEAK_VIEWS} | settings | changes))
    pretrain(recipe, dataset, start_ranks(), folder=folder, seed=0)
    return [message for message in caplog.messages if "measurements in a row" in message]


@pytest.mark.parametrize("objective", ["simclr", "dissl", "swav"])
def test_a_healthy_run_is_left_in_peace(
    objective: str, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert reported_by_a_run(objective, dataset, tmp_path, caplog, epochs=4) == []
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["epoch"] == 4
    assert 1 < last["diagnostics.effective_rank"] <= 7
    assert ("diagnostics.used_classes_share" in last) == (objective != "simclr")


def test_dissl_without_maximality_is_warned_of_dead_classes(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = SMALL_OBJECTIVES["dissl"] | {"entropy_weight": 0.0}
    optimizer = {"name": "adamw", "lr": 0.05}
    reported = reported_by_a_run("dissl", dataset, tmp_path, caplog, epochs=6, objective=objective, optimizer=optimizer)
    assert any("dead classes" in one and "raise objective.entropy_weight" in one for one in reported)


def test_an_encoder_that_gives_every_image_the_same_is_reported(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = SmallResNet.forward
    monkeypatch.setattr(SmallResNet, "forward", lambda self, images: 0 * healthy(self, images) + 1)
    (reported,) = reported_by_a_run("byol", dataset, tmp_path, caplog, epochs=2)
    assert "constant representation: all images have nearly the same" in reported
    assert "raise objective.ema_momentum" in reported


def test_augmentations_that_the_encoder_does_not_ignore_are_reported(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harsh = {"groups": [{"count": 2, "size": 16, "area": [0.1, 1.0]}]}
    optimizer = {"name": "sgd", "lr": 1e-6}
    (reported,) = reported_by_a_run("simclr", dataset, tmp_path, caplog, epochs=3, views=harsh, optimizer=optimizer)
    assert "no invariance: views of one image are as far apart" in reported
    assert "weaken views.augmentation" in reported


@pytest.mark.parametrize("objective", ["dissl", "byol", "vicreg"])
def test_advice_names_keys_of_the_recipe(objective: str) -> None:
    settings = make_recipe(objective).model_dump()
    shape = ObjectiveShape(feature_dim=4, num_views=2, num_global_views=2, batch_size=4)
    built = make_recipe(objective).objective.build(shape, None)
    for advice in (built.diversity_advice or built.collapse_advice, GENERAL_ADVICE, *(sign.advice for sign in SIGNS)):
        for word in (advice or "").replace("(", " ").split():
            section, _, key = word.strip(",;)").partition(".")
            assert not key or key in settings[section], word


def test_dissl_that_learns_nothing_is_reported_by_its_conditional_entropy(caplog: pytest.LogCaptureFixture) -> None:
    shape = ObjectiveShape(feature_dim=4, num_views=2, num_global_views=2, batch_size=4)
    objective = make_recipe("dissl").objective.build(shape, None)
    alarm = collapse_alarm(objective)
    assert (alarm.metric, alarm.collapse_loss) == ("conditional_entropy", pytest.approx(math.log(24)))
    progress = Progress(step=1, steps_per_epoch=1, total_steps=2)
    z = torch.randn(2, 4, 4)
    informed = objective(100 * z, None, progress).metrics["conditional_entropy"].item()
    assert not any(alarm.observe(informed, step) for step in range(300))
    for head in (objective.teacher_head, objective.student_head):
        for weight in head.layers[-1].parameters():
            torch.nn.init.zeros_(weight)
    uniform = objective(z, None, progress).metrics["conditional_entropy"].item()
    reported = [alarm.observe(uniform, step) for step in range(120)]
    assert reported.index(True) == 99
    assert reported.count(True) == 1
    assert "the conditional entropy has been at its collapse value" in caplog.text


@pytest.mark.parametrize(("start", "said"), [(2.3, "until step 589 of the ramp"), (1.2, ""), (None, "")])
def test_a_ramp_above_lambda_minus_one_is_reported(
    start: float | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    ramp = {} if start is None else {"invariance_weight_start": start, "invariance_ramp_steps": 1000}
    settings = SMALL_OBJECTIVES["dissl"] | {"entropy_weight": 2.3, "invariance_weight": 0.6} | ramp
    shape = ObjectiveShape(feature_dim=4, num_views=2, num_global_views=2, batch_size=4)
    with caplog.at_level("INFO", logger="issl_engine"):
        make_recipe("dissl", objective=settings).objective.build(shape, None)
    assert (said in caplog.text) if said else not caplog.records
