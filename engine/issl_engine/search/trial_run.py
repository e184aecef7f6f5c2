"""One trial: its run folder, made or gone on with, and its outcome."""

import logging
import time
from pathlib import Path

import torch

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.extract import FeaturesNotFinite
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe, RecipeFile
from issl_engine.recipe.show import render_file
from issl_engine.run.recipe import OnArm, run_recipe
from issl_engine.search.outcome import Outcome, failed_outcome, outcome_of_run, write_outcome
from issl_engine.training.guard import TrainingStopped
from issl_engine.training.watch.watchdog import OnHung

_log = logging.getLogger("issl_engine")


def judged_on_held_out(recipe: Recipe) -> Recipe:
    """The recipe as a trial runs it: the first probe alone, on held-out training images, and nothing that costs time
    and does not choose. Raises Mistake for a recipe without probes."""
    if not recipe.probes:
        raise Mistake(f"recipe '{recipe.name}' has no probes, and a search goes by the first; add one to 'probes'")
    return recipe.model_copy(
        update={
            "probes": recipe.probes[:1],
            "evaluation": recipe.evaluation.model_copy(update={"report_on": "held_out", "over_training": 0}),
            "controls": False,
            "diagnostics": recipe.diagnostics.model_copy(update={"after_images": None}),
            "checkpoint": recipe.checkpoint.model_copy(
                update={"keep": 1, "keep_every_epochs": None, "keep_best": False}
            ),
        }
    )


def run_trial(
    arm: str, recipe: Recipe, folder: Path, ranks: Ranks, *,
    on_arm: OnArm | None = None, on_hung: OnHung | None = None, command: str = "",
) -> Outcome | None:  # fmt: skip
    """Runs ``recipe`` (as ``judged_on_held_out`` gives it) in ``folder``, on all ranks. The first rank writes and gives
    the outcome; the others give None.

    Losses, gradients or features that are not finite, and a lone process's memory that does not suffice, make a failed
    trial. All else is raised: it would stop other trials too.
    """
    assert recipe.evaluation.report_on == "held_out"
    file = RecipeFile(path=folder, text=render_file(_alone(arm, recipe), commented=False), arms={arm: recipe})
    began, reason = time.perf_counter(), None
    try:
        run_recipe(file, folder, ranks=ranks, on_arm=on_arm, on_hung=on_hung, command=command)
    except TrainingStopped as error:  # on all ranks alike
        reason = str(error)
    except (FeaturesNotFinite, torch.OutOfMemoryError) as error:
        if ranks.world_size > 1:  # the others wait for this rank
            raise
        reason = f"{type(error).__name__}: {error}" if isinstance(error, torch.OutOfMemoryError) else str(error)
    if not ranks.is_first:
        return None
    if reason is None:
        outcome = outcome_of_run(folder)
    else:
        _log.warning("%s: the trial failed: %s", folder, reason)
        outcome = failed_outcome(folder, reason, (time.perf_counter() - began) / 60)
    write_outcome(folder, recipe, outcome)
    return outcome


def _alone(arm: str, recipe: Recipe) -> RecipeFile:
    return RecipeFile(path=Path(), text="", arms={arm: recipe})
