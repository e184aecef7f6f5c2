"""Time, memory and cost of one arm on so many GPUs, from the counts, the data sheets and the assumptions."""

from dataclasses import dataclass, replace
from typing import Literal

from issl_engine.recipe.schema import Recipe
from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.counts import BYTES_OF_FP32, Counts
from issl_profiling.plan.gpu_links import GpuLinks
from issl_profiling.plan.hardware import Gpu
from issl_profiling.plan.messages import Sizes, messages
from issl_profiling.plan.rank_memory import Memory, memory, state_numbers

ZERO_STAGES = (0, 1, 2)
WORTH = 0.9
"""A higher ZeRO stage pays where it leaves at most this share of a lower one's memory."""
Exchange = Literal["gather", "ring"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one number of GPUs. Seconds are of one step."""

    gpus: int
    images_per_gpu: int
    """A step."""
    zero_stage: int
    exchange: str
    """gather or ring; empty for objectives without the choice."""
    memory: Memory
    fits: bool
    compute_seconds: float
    bound: str
    """What sets it: arithmetic, memory (its bandwidth) or launches (the host)."""
    optimizer_seconds: float
    gradient_seconds: float
    """Not hidden."""
    objective_seconds: float
    batch_norm_seconds: float
    bytes_sent: float
    """Payload that one rank brings into collectives."""
    efficiency: float
    """Images per second and GPU over those of one GPU alone with as many images."""
    images_per_second: float

    @property
    def step_seconds(self) -> float:
        return self.images_per_gpu * self.gpus / self.images_per_second


class Planner:
    """Predictions of one arm on one kind of GPU."""

    def __init__(self, recipe: Recipe, counts: Counts, gpu: Gpu, assumed: Assumptions, *, num_classes: int) -> None:
        self.recipe, self.counts, self.gpu, self.assumed = recipe, counts, gpu, assumed
        self.num_classes = num_classes
        self.links = GpuLinks(gpu=gpu, assumed=assumed)

    def best(self, gpus: int, global_batch_size: int) -> Prediction:
        """With the exchange that is faster among what fits, and the lowest ZeRO stage from which the next saves less
        than a tenth of the memory."""
        options = [self.predict(gpus, global_batch_size, stage, exchange)
                   for exchange in self._exchanges() for stage in ZERO_STAGES]  # fmt: skip
        able = [option for option in options if option.fits] or options
        exchange = min(able, key=lambda option: option.step_seconds).exchange
        chosen, *higher = [option for option in options if option.exchange == exchange]
        for option in higher:
            if option.memory.total <= WORTH * chosen.memory.total or (option.fits and not chosen.fits):
                chosen = option
        return chosen

    def predict(self, gpus: int, global_batch_size: int, zero_stage: int, exchange: str) -> Prediction:
        """One setting. ``global_batch_size`` is a multiple of GPUs and accumulation steps."""
        passes = self.recipe.training.accumulation_steps
        images = global_batch_size // gpus
        recipe = self._with_exchange(exchange)
        compute, bound = self._compute_seconds(images, global_batch_size // passes)
        sizes = Sizes(
            recipe=recipe, counts=self.counts, images_per_rank=images // passes, ranks=gpus,
            num_classes=self.num_classes, zero_stage=zero_stage, nccl=True,
        )  # fmt: skip
        sent = messages(sizes)
        seconds = {"gradients": 0.0, "objective": 0.0, "batch-norm": 0.0, "online probe": 0.0, "checks": 0.0}
        for message in sent:
            seconds[message.part] += self.links.seconds(message, gpus)
        optimizer = self._optimizer_seconds(gpus, zero_stage)
        gradients = seconds["gradients"] * (1 - self.assumed.overlap)
        objective = seconds["objective"] + seconds["online probe"] + seconds["checks"]
        step = compute + optimizer + gradients + objective + seconds["batch-norm"]
        alone = self._compute_seconds(images, images // passes)[0] + self._optimizer_seconds(1, 0)
        used = memory(recipe, self.counts, images_per_pass=images // passes, ranks=gpus, zero_stage=zero_stage)
        rows = self._gathered_bytes(recipe, images // passes, gpus) if exchange != "ring" else 0.0
        used = replace(used, activations=used.activations + rows)
        return Prediction(
            gpus=gpus, images_per_gpu=images, zero_stage=zero_stage, exchange=exchange, memory=used,
            fits=used.total + self.assumed.reserve_bytes <= self.gpu.memory_bytes, compute_seconds=compute,
            bound=bound, optimizer_seconds=optimizer, gradient_seconds=gradients,
            objective_seconds=objective, batch_norm_seconds=seconds["batch-norm"],
            bytes_sent=sum(message.total_bytes for message in sent), efficiency=alone / step,
            images_per_second=global_batch_size / step,
        )  # fmt: skip

    def _exchanges(self) -> tuple[str, ...]:
        return ("gather", "ring") if hasattr(self.recipe.objective, "exchange") else ("",)

    def _with_exchange(self, exchange: str) -> Recipe:
        if not exchange:
            return self.recipe
        objective = self.recipe.objective.model_copy(update={"exchange": exchange})
        return self.recipe.model_copy(update={"objective": objective})

    def _compute_seconds(self, images: int, images_of_a_loss: int) -> tuple[float, str]:
        """(forward and backward of so many images, what sets it)."""
        counts, precision = self.counts, self.recipe.training.precision
        per_image = counts.encoder_flops_per_image + counts.objective_flops_per_image
        flops = images * (per_image + counts.objective_flops_per_pair * images_of_a_loss)
        arithmetic = flops / (self.assumed.mfu * self.gpu.peak_flops(precision))
        narrower = 2 if precision == "bf16" else 1
        saved = images * (counts.encoder_saved_bytes_per_image / narrower + counts.objective_saved_bytes_per_image)
        bus = self.assumed.touches * saved / (self.assumed.memory_efficiency * self.gpu.memory_bandwidth)
        launches = self.recipe.training.accumulation_steps * counts.encoder_operations * self.assumed.launch_s
        return max((arithmetic, "arithmetic"), (bus, "memory"), (launches, "launches"))

    def _optimizer_seconds(self, gpus: int, zero_stage: int) -> float:
        """Weights and states are read and written, gradients read."""
        share = 1 if zero_stage == 0 else 1 / gpus
        touched = BYTES_OF_FP32 * self.counts.trained_parameters * (3 + 2 * state_numbers(self.recipe)) * share
        return touched / (self.assumed.memory_efficiency * self.gpu.memory_bandwidth)

    def _gathered_bytes(self, recipe: Recipe, images: int, gpus: int) -> float:
        """Rows of all ranks that a gathering contrastive loss holds, and their gradient."""
        if not hasattr(recipe.objective, "exchange"):
            return 0.0
        width = int(getattr(recipe.objective, "projection_dim"))  # noqa: B009  # of both objectives with an exchange
        return 2.0 * BYTES_OF_FP32 * recipe.views.num_global_views * images * gpus * width
