"""A few training steps of a recipe in a process of their own: how long a step takes, and how much memory it needs.

Run as a program, this file is that process: recipe and number of steps come on stdin, the result leaves on stdout.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

from issl_engine.mistakes import is_mistake, sentence_of
from issl_engine.optim.rates import Rates
from issl_engine.recipe.schema import Recipe

WARMUP_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """``seconds``: median of a step, loading included; ``peak_bytes``: of the process on a CPU, of the GPU's memory on
    a GPU; ``compiled``: whether the encoder ran compiled."""

    seconds: float
    peak_bytes: int
    compiled: bool


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """Why a recipe cannot be trained so: one sentence, or that memory was short."""

    reason: str


OUT_OF_MEMORY = Unfit(reason="out of memory")
Attempt = Callable[[Recipe], Trial | Unfit]
"""Trains a recipe a few steps."""


def run_trial(recipe: Recipe, *, steps: int) -> Trial | Unfit:
    """``steps`` steps after two more, of the recipe's first seed, on one rank. Waits for the process to end.

    Raises RuntimeError, with what the process has logged, for a defect in it.
    """
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "issl_profiling.tuning.trial"],
        input=json.dumps({"recipe": recipe.model_dump(mode="json"), "steps": steps}),
        capture_output=True, text=True, env=os.environ | alone, check=False,
    )  # fmt: skip
    if done.returncode in (-9, 137):  # the system ends what takes too much
        return OUT_OF_MEMORY
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"a trial of recipe {recipe.name} ended with code {done.returncode}:\n{done.stderr}")
    result = json.loads(lines[-1])
    return Unfit(**result) if "reason" in result else Trial(**result)


def train_here(recipe: Recipe, *, steps: int) -> Trial:
    """The trial itself, in this process. Raises Mistake as pretraining does."""
    import torch

    from issl_engine.ranks import start_ranks
    from issl_engine.run.dataset import load_dataset
    from issl_engine.training.build import build_engine, build_learner, build_views
    from issl_engine.training.plan import make_plan
    from issl_engine.training.step import after_step, train_step
    from issl_profiling.timing import wait_for

    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    ranks, dataset, seed = start_ranks(), load_dataset(recipe), recipe.seeds[0]
    plan = make_plan(recipe, dataset, ranks)
    learner = build_learner(recipe, plan, ranks, seed)
    engine = build_engine(learner, recipe, plan)
    learner.train()
    views = build_views(recipe, dataset, plan, ranks, seed=seed)
    seconds = []
    try:
        for index in range(WARMUP_STEPS + steps):
            progress = plan.progress(min(index, plan.total_steps - 1))
            started = time.perf_counter()
            done = train_step(
                engine, views, None, progress=progress, rates=Rates(lr=plan.peak_lr), ranks=ranks,
                accumulation_steps=recipe.training.accumulation_steps,
                exact_accumulation=recipe.training.exact_accumulation,
            )  # fmt: skip
            after_step(engine, progress, done)
            engine.guard.read(ranks, newest=False)
            wait_for(ranks.device)
            seconds.append(time.perf_counter() - started)
    finally:
        views.close()
        engine.close()
    on_gpu = ranks.device.type == "cuda"
    # The first in bytes, the second in KiB.
    peak = torch.cuda.max_memory_reserved() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    compiled = learner.encoder._compiled_call_impl is not None
    return Trial(seconds=median(seconds[WARMUP_STEPS:]), peak_bytes=peak, compiled=compiled)


def _main() -> None:
    import torch

    from issl_engine.commands.stdout import reserved_stdout

    asked = json.load(sys.stdin)
    with reserved_stdout():
        result: Trial | Unfit
        try:
            result = train_here(Recipe.model_validate(asked["recipe"]), steps=asked["steps"])
        except torch.OutOfMemoryError:
            result = OUT_OF_MEMORY
        except Exception as error:
            if not is_mistake(error):
                raise
            result = Unfit(reason=sentence_of(error))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    _main()
