"""Whether a batch can be shared out evenly; apart from the plan, so that it is told before DeepSpeed is loaded."""

from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import TrainingConfig


def check_batch_size(training: TrainingConfig, world_size: int) -> None:
    """Raises ValueError, with the nearest sizes that work, when a batch does not divide by ranks and accumulation."""
    parts = world_size * training.accumulation_steps
    batch = training.global_batch_size
    if batch % parts == 0:
        return
    below = batch // parts * parts
    nearest = f"{below} or {below + parts}" if below >= 2 else str(below + parts)
    raise Mistake(
        f"training.global_batch_size ({batch}) must be a multiple of ranks x accumulation_steps "
        f"({world_size} x {training.accumulation_steps} = {parts}); the nearest that works is {nearest}"
    )
