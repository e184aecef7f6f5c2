"""Tunes a recipe to this machine: the largest forward pass that fits, then the settings that make steps faster.

The batch of a step never changes. What would change results otherwise is said, and left alone unless asked for.
"""

from dataclasses import dataclass, field
from functools import partial
from statistics import median

from issl_engine.mistakes import Mistake
from issl_engine.recipe.load import change_recipe
from issl_engine.recipe.schema import Recipe
from issl_profiling.tuning.faster_settings import Setting, Timed, best_overrides, settings_to_try, time_settings
from issl_profiling.tuning.fewest_passes import fewest_passes
from issl_profiling.tuning.trial import Attempt, Trial


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """``ranks``: how many will share the batch of a step; ``limit_bytes``: memory that may be used on a CPU, None on a
    GPU; ``only``: keys that are tried, or empty for all; ``change_results``: also take what changes results."""

    ranks: int
    limit_bytes: int | None
    rounds: int
    only: tuple[str, ...] = ()
    change_results: bool = False


@dataclass(kw_only=True)
class Tuned:
    """``overrides`` of the recipe; seconds per step on one rank before and after; what was tried; what to know."""

    overrides: tuple[str, ...]
    before_seconds: float
    after_seconds: float
    images: int
    peak_bytes: int
    timed: list[Timed]
    warnings: list[str] = field(default_factory=list)


def tune(recipe: Recipe, attempt: Attempt, settings: TuneSettings) -> Tuned:
    """``attempt`` trains a recipe a few steps. Raises Mistake for a batch that cannot be shared, or fits nowhere."""
    one_rank = _of_one_rank(recipe, settings.ranks)
    images = one_rank.training.global_batch_size
    passes_of = partial(_with_passes, one_rank)
    passes = fewest_passes(images, lambda count: attempt(passes_of(count)), limit_bytes=settings.limit_bytes)
    overrides: tuple[str, ...] = ()
    warnings: list[str] = []
    before = recipe.training.accumulation_steps
    candidates = settings_to_try(recipe, on_gpu=settings.limit_bytes is None)
    if passes.count != before:
        overrides = (f"training.accumulation_steps={passes.count}",)
        warnings.append(_what_passes_change(recipe, images, before, passes.count))
    if passes.count > before and not recipe.training.activation_checkpointing:
        candidates.append(
            Setting(overrides=("training.activation_checkpointing=true", f"training.accumulation_steps={before}"))
        )
    if settings.only:
        candidates = [one for one in candidates if {o.split("=")[0] for o in one.overrides} & set(settings.only)]
    base = passes_of(passes.count)
    timed = time_settings(base, candidates, attempt, rounds=settings.rounds)
    best = best_overrides(timed, change_results=settings.change_results)
    before_seconds = median(timed[0].seconds)
    after_seconds = _time_together(base, best, timed, attempt)
    if after_seconds is None:  # together they do not do what each did alone
        best, after_seconds = _fastest_alone(timed, best)
    for one in timed[1:]:
        if one.setting.changes_results and one.saves(timed[0]):
            taken = "taken" if set(one.setting.overrides) <= set(best) else "not taken without --change-results"
            gain = before_seconds / median(one.seconds) - 1
            warnings.append(f"{one.setting.name} is {gain:.0%} faster and {taken}: {one.setting.changes_results}")
    return Tuned(
        overrides=_laid_over(overrides, best), before_seconds=before_seconds, after_seconds=after_seconds,
        images=images, peak_bytes=passes.trial.peak_bytes, timed=timed, warnings=warnings,
    )  # fmt: skip


def _of_one_rank(recipe: Recipe, ranks: int) -> Recipe:
    batch = recipe.training.global_batch_size
    if batch % ranks:
        raise Mistake(f"training.global_batch_size ({batch}) must be a multiple of --ranks ({ranks})")
    return recipe if ranks == 1 else change_recipe(recipe, (f"training.global_batch_size={batch // ranks}",))


def _with_passes(recipe: Recipe, count: int) -> Recipe:
    return change_recipe(recipe, (f"training.accumulation_steps={count}",))


def _what_passes_change(recipe: Recipe, images: int, before: int, now: int) -> str:
    compared = "" if recipe.training.exact_accumulation else ", and losses that compare images see those of one pass"
    return (
        f"training.accumulation_steps={now} instead of {before} changes results: batch-norm normalises over "
        f"{images // now} images per rank instead of {images // before}{compared}"
    )


def _time_together(base: Recipe, best: tuple[str, ...], timed: list[Timed], attempt: Attempt) -> float | None:
    """Seconds with all of ``best``, or None if that is no faster than the fastest of them alone."""
    if not best:
        return median(timed[0].seconds)
    alone = min(median(one.seconds) for one in timed if not one.unfit and set(one.setting.overrides) <= set(best))
    single = [one for one in timed if set(one.setting.overrides) == set(best)]
    if single:
        return median(single[0].seconds)
    together = attempt(change_recipe(base, best))
    return together.seconds if isinstance(together, Trial) and together.seconds < alone else None


def _fastest_alone(timed: list[Timed], best: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    among = [
        one for one in timed if not one.unfit and one.setting.overrides and set(one.setting.overrides) <= set(best)
    ]
    fastest = min(among, key=lambda one: median(one.seconds))
    return fastest.setting.overrides, median(fastest.seconds)


def _laid_over(first: tuple[str, ...], then: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(({o.split("=")[0]: o for o in first} | {o.split("=")[0]: o for o in then}).values())
