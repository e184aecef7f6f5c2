"""Two gloo ranks compute what one rank would: data, loss and weights, through the engine, for every objective.

Batch-norm uses its running statistics here: on CPU each rank would otherwise normalise by its own rows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import SMALL_OBJECTIVES

STEPS = 4

PROGRAM = """
import json, os, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from conftest import SMALL_OBJECTIVES, make_images, make_recipe
from issl_engine.data.dali import TrainingViews
from issl_engine.data.sources.base import Dataset
from issl_engine.data.views import MultiCropBatch
from issl_engine.training.deepspeed import start_ranks
from issl_engine.training.build import build_engine, build_learner
from issl_engine.training.plan import make_plan
from issl_engine.training.step import train_step

if sys.argv[4] == "shuffled":
    made = TrainingViews.__next__

    def shuffled(self):
        batch = made(self)
        order = torch.randperm(len(batch.ids), generator=torch.Generator().manual_seed(1))
        crops = tuple(crop[:, order].contiguous() for crop in batch.crops)
        return MultiCropBatch(crops=crops, ids=batch.ids[order], labels=batch.labels[order])

    TrainingViews.__next__ = shuffled

ranks = start_ranks()
dataset = Dataset(name="tiny", classes=("a", "b", "c", "d"), train=make_images(40, 0), test=make_images(16, 1))
result = {}
for objective in SMALL_OBJECTIVES:
    recipe = make_recipe(objective, optimizer={"name": "sgd", "lr": 0.05})
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed=0)
    engine = build_engine(learner, recipe, plan)
    learner.eval()
    views = TrainingViews(dataset.train, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank,
                          world_size=ranks.world_size, seed=0, device=ranks.device, num_threads=1)
    losses = []
    for step in range(int(sys.argv[3])):
        done = train_step(engine, views, None, progress=plan.progress(step), lr=0.05, ranks=ranks, accumulation_steps=1)
        learner.after_step(plan.progress(step + 1))
        losses.append(done.loss)
    views.close()
    mean = torch.stack(losses)
    if ranks.group is not None:
        torch.distributed.all_reduce(mean)
        mean /= ranks.world_size
    weights = torch.cat([p.detach().flatten() for _, p in learner.trainable_parameters()])
    result[objective] = {"losses": mean.tolist(), "weights": weights.double().tolist()}
    engine.close()
if ranks.rank == 0:
    json.dump(result, open(sys.argv[2], "w"))
"""


def launch(world_size: int, folder: Path, order: str = "as made") -> dict[str, dict[str, list[float]]]:
    """Starts the ranks as a launcher would, by environment variables alone. ``order`` of each batch's images may be
    "shuffled"."""
    out = folder / f"world{world_size} {order}.json"
    port = 20000 + os.getpid() % 20000 + world_size
    processes = []
    for rank in range(world_size):
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
                                    "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}  # fmt: skip
        command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(out), str(STEPS), order]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, list[float]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    return [launch(1, folder), launch(2, folder), launch(1, folder, "shuffled")]


@pytest.mark.parametrize("objective", list(SMALL_OBJECTIVES))
def test_two_ranks_equal_one(objective: str, runs: list[dict[str, dict[str, list[float]]]]) -> None:
    """Weights to 1e-3, or as far as one rank comes from itself with the images of each batch in another order: Barlow
    Twins divides by standard deviations, which makes much of the last bits where one is small."""
    one, two, shuffled = (run[objective] for run in runs)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4, abs=1e-5)
    expected = np.array(one["weights"])
    floor = abs(np.array(shuffled["weights"]) - expected)
    bound = np.maximum.reduce([1e-3 * abs(expected), np.full_like(expected, 2e-5), 2 * floor])
    assert (abs(np.array(two["weights"]) - expected) <= bound).all()
