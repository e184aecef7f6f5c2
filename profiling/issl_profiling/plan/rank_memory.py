"""Bytes of one rank: weights, gradients, the optimiser's state, activations; by ZeRO stage."""

from dataclasses import dataclass

from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe
from issl_profiling.plan.counts import BYTES_OF_FP32, Counts

STATES = {"adam": 2, "adamw": 2, "larc": 1, "sgd": 1}
"""Optimiser → numbers that it keeps for each weight."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one rank."""

    weights: float
    gradients: float
    optimizer: float
    """State, and under ZeRO 1 and 2 the fp32 copy of the rank's share of the weights that DeepSpeed updates."""
    activations: float
    logits: float
    """Of the activations, the largest tensor of heads and loss."""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(recipe: Recipe, counts: Counts, *, images_per_pass: int, ranks: int, zero_stage: int) -> Memory:
    """At the end of a forward pass of ``images_per_pass`` images. Raises Mistake for an unknown optimiser."""
    size = BYTES_OF_FP32 * counts.trained_parameters
    # bf16 is autocast: weights and losses stay in fp32, what the encoder keeps is in bf16.
    narrower = 2 if recipe.training.precision == "bf16" else 1
    encoder = counts.encoder_saved_bytes_per_image / narrower
    return Memory(
        weights=size + BYTES_OF_FP32 * counts.teacher_parameters,
        gradients=size / ranks if zero_stage == 2 else size,
        optimizer=optimizer_bytes(recipe, counts.trained_parameters, ranks=ranks, zero_stage=zero_stage),
        activations=images_per_pass * (encoder + counts.objective_saved_bytes_per_image),
        logits=images_per_pass * counts.logits_bytes_per_image,
    )


def optimizer_bytes(recipe: Recipe, parameters: int, *, ranks: int, zero_stage: int) -> float:
    """Of one rank's state, with the fp32 copy that ZeRO keeps."""
    size = BYTES_OF_FP32 * parameters * state_numbers(recipe)
    return size if zero_stage == 0 else (size + BYTES_OF_FP32 * parameters) / ranks


def state_numbers(recipe: Recipe) -> int:
    """Numbers per weight that the optimiser keeps. Raises Mistake for one that is not known here."""
    name = recipe.optimizer.name
    if name not in STATES:
        raise Mistake(f"optimizer {name}: its state is not in issl_profiling/plan/rank_memory.py; add it to STATES")
    return 0 if getattr(recipe.optimizer, "momentum", 1) == 0 else STATES[name]
