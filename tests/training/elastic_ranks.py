"""Ranks of the elastic tests: the steps that a run does between two checkpoints, without its loop.

Batch-norm uses its running statistics: on CPU each rank would otherwise normalise by its own rows, and no two world
sizes would be alike.
"""

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from issl_engine.loading import TrainingViews
from issl_engine.optim.rates import Rates
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.checkpoints.manifest import CheckpointError
from issl_engine.training.checkpoints.restore import restore_checkpoint
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.plan import make_plan
from issl_engine.training.step import after_step, train_step
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics

from .conftest import make_images, make_recipe

CASES: dict[str, dict[str, Any]] = {
    "swav": {
        "objective": {"name": "swav", "num_prototypes": 12, "queue_length": 24, "queue_start_epochs": 0.4,
                      "freeze_prototypes_steps": 1, "hidden_dim": 32},
        "optimizer": {"name": "larc", "lr": 0.3},
    },
    "dino": {
        "objective": {"name": "dino", "num_prototypes": 24, "hidden_dim": 32, "freeze_last_layer_epochs": 0},
        "optimizer": {"name": "adamw", "lr": 0.003},
    },
}  # fmt: skip
LAST_STEP = 8
STAGES = {1: 0, 2: 1, 4: 2}
"""World size → ZeRO stage: no two share theirs."""


@dataclass(frozen=True)
class Stretch:
    """Steps from a checkpoint (or from the start) to the last; saves after some of them into ``folder``."""

    folder: str
    resume: str | None = None
    save_at: tuple[int, ...] = ()
    last_step: int = LAST_STEP


def train(case: str, stretch: Stretch, root: Path, ranks: Ranks) -> dict[str, Any] | None:
    """On the first rank: losses; weights, buffers after the last step; random numbers of all ranks at both ends."""
    recipe = make_recipe(
        "simclr", **CASES[case], deepspeed={"zero_stage": STAGES[ranks.world_size]}, checkpoint={"keep": 9}
    )
    dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    probe = OnlineProbe(learner.encoder.dim, 4, lr=0.001, group=ranks.group)
    engine = build_engine(learner, recipe, plan)
    learner.eval()
    probe.eval()
    step = 0
    if stretch.resume is not None:
        folder = root / case / stretch.resume
        step = restore_checkpoint(folder, engine=engine, learner=learner, online_probe=probe, ranks=ranks).step
    views = TrainingViews(dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank,
                          world_size=ranks.world_size, seed=0, device=ranks.device, num_threads=1,
                          start_batch=step)  # fmt: skip
    saver = CheckpointSaver(root / case / stretch.folder, recipe=recipe, seed=0, engine=engine, learner=learner,
                            online_probe=probe, ranks=ranks)  # fmt: skip
    random_start = ranks.gather(torch.rand(3).tolist())
    diagnostics = BatchDiagnostics(
        recipe.diagnostics, learner.objective, ranks, log_every_steps=1,
        assigned_rows=plan.loss_batch_size * ranks.world_size * recipe.views.num_global_views,
    )  # fmt: skip
    losses, measured = [], dict[str, float]()
    for done in range(step, stretch.last_step):
        result = train_step(
            engine, views, probe, progress=plan.progress(done), rates=Rates(lr=0.01), ranks=ranks, accumulation_steps=1
        )
        after_step(engine, plan.progress(done + 1), result)
        losses.append(sum(ranks.gather(result.loss.item())) / ranks.world_size)
        measured = diagnostics.measure(result)
        if done + 1 in stretch.save_at:
            saver.save(plan.progress(done + 1), seconds=0.0)
    saver.wait()
    views.close()
    state = {name: value.detach().double() for name, value in learner.named_parameters()}
    state |= {f"probe.{name}": value.detach().double() for name, value in probe.named_parameters()}
    state["centre"] = dict(learner.named_buffers()).get("objective.centre", torch.zeros(0)).double()
    engine.close()
    random = {"random_start": random_start, "random_end": ranks.gather(torch.rand(3).tolist())}
    if not ranks.is_first:
        return None
    outcome = {"losses": losses, "diagnostics": list(measured.values())} | random
    return outcome | {name: value.flatten().tolist() for name, value in state.items()}


def save_where_the_second_rank_cannot(root: Path, ranks: Ranks) -> list[str]:
    """What each rank reports when the second one's files are refused by the system."""
    recipe = make_recipe("simclr")
    dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    saver = CheckpointSaver(root / "refused", recipe=recipe, seed=0, engine=engine, learner=learner, online_probe=None,
                            ranks=ranks)  # fmt: skip
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if ranks.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    saver.save(plan.progress(1), seconds=0.0)
    reported = "nothing"
    try:
        saver.wait()
    except CheckpointError as error:
        reported = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    engine.close()
    return ranks.gather(reported)


def run_stretches(ranks: Ranks, root: Path, stretches: list[Stretch]) -> dict[str, Any]:
    """Stretch → case → what came of it, on the first rank; two ranks also do what the second of them cannot."""
    found: dict[str, Any] = {
        stretch.folder: {case: train(case, stretch, root, ranks) for case in CASES} for stretch in stretches
    }
    if ranks.world_size == 2:
        found["refused"] = save_where_the_second_rank_cannot(root, ranks)
    return found
