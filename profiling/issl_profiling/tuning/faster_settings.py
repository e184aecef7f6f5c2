"""Which settings make a step faster: each is tried alone, in turn with the recipe as it is, then all that helped."""

import os
from dataclasses import dataclass, field
from statistics import median

from issl_engine.mistakes import Mistake
from issl_engine.recipe.load import change_recipe
from issl_engine.recipe.schema import Recipe
from issl_profiling.tuning.trial import Attempt, Unfit

WORTH_IT = 0.03
"""Share of a step's time that a setting must save, in every round, to be taken."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Overrides that are tried together. ``changes_results``: what it changes beyond rounding, or empty."""

    overrides: tuple[str, ...]
    changes_results: str = ""

    @property
    def name(self) -> str:
        return " ".join(self.overrides)


@dataclass(kw_only=True)
class Timed:
    """A setting's seconds per step, one per round; ``unfit`` says why it has none."""

    setting: Setting
    seconds: list[float] = field(default_factory=list)
    unfit: str = ""

    def saves(self, base: "Timed") -> bool:
        """Whether it was faster than ``base`` in every round, by more than what chance gives."""
        pairs = zip(self.seconds, base.seconds, strict=True)
        return not self.unfit and all(mine < (1 - WORTH_IT) * theirs for mine, theirs in pairs)


AS_IT_IS = Setting(overrides=())


def settings_to_try(recipe: Recipe, *, on_gpu: bool, cores: int | None = None) -> list[Setting]:
    """What may pay on this device, where it differs from the recipe."""
    cores = cores or len(os.sched_getaffinity(0))
    training = recipe.training
    other = {True: "false", False: "true"}
    found = [Setting(overrides=(f"training.channels_last={other[training.channels_last]}",))]
    if not training.compile and not training.activation_checkpointing:
        found.append(Setting(overrides=("training.compile=true",)))
        if on_gpu:
            found.append(Setting(overrides=("training.compile=true", "training.compile_mode=reduce-overhead")))
    threads = sorted({max(1, cores // 2), cores})
    found += [Setting(overrides=(f"data.decode_threads={n}",)) for n in threads if n != recipe.data.decode_threads]
    if not on_gpu:
        found += [Setting(overrides=(f"training.threads={n}",)) for n in threads if n != training.threads]
    if training.precision == "fp32":
        found.append(
            Setting(overrides=("training.precision=bf16",), changes_results="encoder and heads are computed in bf16")
        )
    if training.view_batching == "by_size":
        found.append(
            Setting(
                overrides=("training.view_batching=each",),
                changes_results="batch-norm normalises over one view instead of all of a size",
            )
        )
    return found


def time_settings(recipe: Recipe, settings: list[Setting], attempt: Attempt, *, rounds: int) -> list[Timed]:
    """The recipe as it is first, then each setting alone; every round goes through all of them in turn."""
    timed = [Timed(setting=setting) for setting in (AS_IT_IS, *settings)]
    for _ in range(rounds):
        for one in timed:
            if one.unfit:
                continue
            result = attempt(changed(recipe, one.setting))
            if isinstance(result, Unfit):
                one.unfit = result.reason
            elif "training.compile=true" in one.setting.overrides and not result.compiled:
                one.unfit = "compiling failed here"
            else:
                one.seconds.append(result.seconds)
    if timed[0].unfit:
        raise Mistake(f"recipe {recipe.name} cannot be trained here as it is: {timed[0].unfit}")
    return timed


def best_overrides(timed: list[Timed], *, change_results: bool) -> tuple[str, ...]:
    """Of all settings that help, one value per key, the fastest first; those that change results only if asked for."""
    base, *rest = timed
    helping = [one for one in rest if one.saves(base) and (change_results or not one.setting.changes_results)]
    chosen: dict[str, str] = {}
    for one in sorted(helping, key=lambda one: median(one.seconds)):
        keys = {override.split("=")[0] for override in one.setting.overrides}
        if not keys & chosen.keys():
            chosen |= {override.split("=")[0]: override for override in one.setting.overrides}
    return tuple(chosen.values())


def changed(recipe: Recipe, setting: Setting) -> Recipe:
    """The recipe with a setting laid over."""
    return change_recipe(recipe, setting.overrides) if setting.overrides else recipe
