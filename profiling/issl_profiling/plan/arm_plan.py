"""The plan of one arm: a prediction for each number of GPUs, and what was left out and why."""

from dataclasses import dataclass

from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import load_dataset
from issl_engine.sources.base import SourceError
from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.counts import Counts, count
from issl_profiling.plan.hardware import Gpu
from issl_profiling.plan.prediction import Planner, Prediction

CLASSES_OF_UNREAD_DATA = 1000
"""Only the online probe's gradients, a small part of what is sent, depend on it."""
SECONDS_PER_DAY, SECONDS_PER_HOUR = 86400, 3600


@dataclass(frozen=True, kw_only=True)
class DataSize:
    """``images`` per epoch, None where nobody can tell; ``note`` then says why."""

    images: int | None
    classes: int
    note: str = ""


def data_size(recipe: Recipe, images: int | None) -> DataSize:
    """``images`` of the source as the user says, else of the recipe's data where they are here; pretraining sees the
    recipe's share of them."""
    if images is not None:
        return DataSize(images=round(images * recipe.training.image_share), classes=CLASSES_OF_UNREAD_DATA)
    try:
        dataset = load_dataset(recipe)
    except (SourceError, OSError) as error:
        note = f"days, cost and energy are left out, as the data are not here ({error}); say --images NUMBER"
        return DataSize(images=None, classes=CLASSES_OF_UNREAD_DATA, note=note)
    return DataSize(images=len(dataset.pretraining_images), classes=dataset.num_classes)


@dataclass(frozen=True, kw_only=True)
class Line:
    """``days``, ``gpu_hours`` and ``kwh`` of all epochs are None where the number of images is not known; ``cost`` also
    without a price. ``kwh``: the GPUs' rated power throughout, nothing else of the machines."""

    prediction: Prediction
    days: float | None
    gpu_hours: float | None
    kwh: float | None
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class ArmPlan:
    """``left_out``: numbers of GPUs that cannot share the batch, each with the reason."""

    arm: str
    counts: Counts
    lines: list[Line]
    left_out: list[str]
    note: str


def plan_arm(
    arm: str, recipe: Recipe, *, gpus: tuple[int, ...], gpu: Gpu, assumed: Assumptions, images: int | None,
    images_per_gpu: int | None, price: float | None,
) -> ArmPlan:  # fmt: skip
    """Raises Mistake where an objective or optimiser is not known to the model."""
    counts, size = count(recipe), data_size(recipe, images)
    planner = Planner(recipe, counts, gpu, assumed, num_classes=size.classes)
    lines, left_out = [], []
    for number in gpus:
        batch = recipe.training.global_batch_size if images_per_gpu is None else images_per_gpu * number
        reason = _obstacle(number, batch, recipe.training.accumulation_steps)
        if reason is not None:
            left_out.append(reason)
            continue
        lines.append(_line(planner.best(number, batch), recipe, size, gpu, price))
    return ArmPlan(arm=arm, counts=counts, lines=lines, left_out=left_out, note=size.note)


def _obstacle(gpus: int, batch: int, passes: int) -> str | None:
    if batch % (gpus * passes) == 0:
        return None
    parts = f"{gpus} GPUs" + (f" x {passes} accumulation steps" if passes > 1 else "")
    return f"{gpus} GPUs are left out: the batch of {batch} images cannot be divided by {parts}"


def _line(prediction: Prediction, recipe: Recipe, size: DataSize, gpu: Gpu, price: float | None) -> Line:
    if size.images is None:
        return Line(prediction=prediction, days=None, gpu_hours=None, kwh=None, cost=None)
    seconds = recipe.training.epochs * size.images / prediction.images_per_second
    hours = seconds / SECONDS_PER_HOUR * prediction.gpus
    return Line(
        prediction=prediction, days=seconds / SECONDS_PER_DAY, gpu_hours=hours, kwh=hours * gpu.power_watts / 1000,
        cost=None if price is None else price * hours,
    )  # fmt: skip
