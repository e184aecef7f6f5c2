"""Ranks of the elastic tests: the steps that a run does between two checkpoints, without its loop.

One process imports everything and forks the ranks of each stretch. Batch-norm uses its running statistics: on CPU
each rank would otherwise normalise by its own rows, and no two world sizes would be alike.
"""

import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from issl_engine.loading import TrainingViews
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks, start_ranks
from issl_engine.sources.base import Dataset
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.checkpoints.manifest import CheckpointError
from issl_engine.training.checkpoints.restore import restore_checkpoint
from issl_engine.training.checkpoints.saver import CheckpointSaver
from issl_engine.training.plan import make_plan
from issl_engine.training.step import after_step, train_step
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import make_images, make_recipe
else:
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
MOST_SECONDS = 240
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
            engine, views, probe, progress=plan.progress(done), lr=0.01, ranks=ranks, accumulation_steps=1
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
    """What each rank is told when the second one's files are refused by the system."""
    recipe = make_recipe("simclr")
    dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    saver = CheckpointSaver(root / "refused", recipe=recipe, seed=0, engine=engine, learner=learner, online_probe=None,
                            ranks=ranks)  # fmt: skip
    if ranks.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    saver.save(plan.progress(1), seconds=0.0)
    told = "nothing"
    try:
        saver.wait()
    except CheckpointError as error:
        told = str(error)
    engine.close()
    return ranks.gather(told)


def run_rank(rank: int, world_size: int, port: int, stretches: list[Stretch], root: Path) -> None:
    """One rank of all stretches with one world size; the first writes what came out."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
                   "WORLD_SIZE": str(world_size)}  # fmt: skip
    ranks = start_ranks()
    for stretch in stretches:
        found = {case: train(case, stretch, root, ranks) for case in CASES}
        if ranks.is_first:
            (root / f"{stretch.folder}.json").write_text(json.dumps(found))
    if world_size == 2:
        told = save_where_the_second_rank_cannot(root, ranks)
        if ranks.is_first:
            (root / "refused.json").write_text(json.dumps(told))


def main() -> None:
    """Arguments: folder, a free port, stretches as JSON (world size → list)."""
    root, port, plan = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    for number, (world_size, stretches) in enumerate(plan.items()):
        children = []
        for rank in range(int(world_size)):
            child = os.fork()
            if child == 0:
                signal.alarm(MOST_SECONDS)  # a rank that hangs ends by itself
                try:
                    run_rank(rank, int(world_size), port + number, [Stretch(**entry) for entry in stretches], root)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            children.append(child)
        failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(failed):
            sys.exit(f"ranks of world size {world_size} ended with {failed}")


if __name__ == "__main__":
    main()
