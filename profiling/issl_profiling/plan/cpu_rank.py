"""One CPU rank of the check, a program of its own: ``python -m issl_profiling.plan.cpu_rank ORDER.json FOUND.json``.

Ranks learn who they are from environment variables, as any launcher does. The first one writes what was found.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from issl_engine.ranks import start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import load_dataset
from issl_engine.training.deepspeed import Engine
from issl_profiling.plan.counts import SavedBytes
from issl_profiling.plan.gloo_links import GlooLinks, measure_links
from issl_profiling.plan.traffic import Traffic
from issl_profiling.train.case import TrainCase
from issl_profiling.train.our_training import OurTraining, cached_batches

WARMUP_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the ranks do. ``batches``: global batch sizes whose step is timed; ``zero_stages``: those whose memory and
    messages are counted, at the first batch."""

    recipe: str
    overrides: list[str]
    arm: str
    steps: int
    batches: list[int]
    zero_stages: list[int]


@dataclass(frozen=True, kw_only=True)
class Found:
    """``step_seconds`` one per batch, the mean over this rank's steps; ``saved_bytes`` of a forward pass of the first
    batch on this rank; the others one per ZeRO stage."""

    step_seconds: list[float]
    saved_bytes: int
    optimizer_bytes: list[int]
    sent_bytes: list[dict[str, int]]
    """Kind of collective → bytes."""
    links: GlooLinks | None

    @staticmethod
    def from_json(record: dict[str, Any]) -> "Found":
        links = record.pop("links")
        return Found(links=None if links is None else GlooLinks(**links), **record)


def run(order: Order) -> Found:
    """On every rank."""
    traffic = Traffic()
    with traffic.counting():  # from the beginning: DeepSpeed keeps some of torch's functions when it starts
        ranks = start_ranks()
        links = measure_links() if ranks.world_size > 1 else None
        cases = [_case(order, batch, order.zero_stages[0]) for batch in order.batches]
        optimizer, sent = [], []
        for stage in order.zero_stages:
            one_optimizer, one_sent = _count_stage(_case(order, order.batches[0], stage), traffic)
            optimizer.append(one_optimizer)
            sent.append(one_sent)
        return Found(
            step_seconds=[_step_seconds(case, order.steps) for case in cases], saved_bytes=_saved_bytes(cases[0]),
            optimizer_bytes=optimizer, sent_bytes=sent, links=links,
        )  # fmt: skip


def _case(order: Order, batch: int, zero_stage: int) -> TrainCase:
    changes = [f"training.global_batch_size={batch}", f"deepspeed.zero_stage={zero_stage}", "training.threads=1"]
    recipe: Recipe = load_recipe(order.recipe, [*order.overrides, *changes], [order.arm]).arms[order.arm]
    torch.set_num_threads(1)
    return TrainCase.of(order.arm, recipe, load_dataset(recipe), start_ranks())


def _count_stage(case: TrainCase, traffic: Traffic) -> tuple[int, dict[str, int]]:
    """(bytes of the optimiser's memory, bytes brought into collectives by one step, by kind), after a first step."""
    training = OurTraining(case, cached_batches(case))
    try:
        training.step()
        traffic.bytes_of.clear()
        training.step()
        return optimizer_bytes(training.engine), dict(traffic.bytes_of)
    finally:
        training.close()


def _step_seconds(case: TrainCase, steps: int) -> float:
    training = OurTraining(case, cached_batches(case))
    seconds = []
    try:
        for number in range(WARMUP_STEPS + steps):
            case.ranks.barrier()
            started = time.perf_counter()
            training.step()
            if number >= WARMUP_STEPS:
                seconds.append(time.perf_counter() - started)
    finally:
        training.close()
    return median(seconds)


def _saved_bytes(case: TrainCase) -> int:
    training = OurTraining(case, cached_batches(case))
    try:
        saved = SavedBytes(training.learner)
        with saved.counting():
            training.learner(next(training.views), case.progress)
        return saved.total
    finally:
        training.close()


def optimizer_bytes(engine: Engine) -> int:
    """State of this rank, single counters left out, and the fp32 copies that ZeRO 1 and 2 keep."""
    outer: Any = engine.optimizer
    inner = getattr(outer, "optimizer", outer)
    states = [value for state in inner.state.values() for value in state.values() if isinstance(value, Tensor)]
    copies = getattr(outer, "single_partition_of_fp32_groups", [])
    return sum(tensor.numel() * tensor.element_size() for tensor in (*states, *copies) if tensor.dim())


def main() -> None:
    order = Order(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    found = run(order)
    if start_ranks().is_first:
        Path(sys.argv[2]).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
