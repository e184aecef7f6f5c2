"""All watchers of a training, in the order in which the loop calls them."""

from issl_engine.training.build import Training
from issl_engine.training.watch.alarms import DataAlarm, SkippedSteps, collapse_alarm
from issl_engine.training.watch.batch_diagnostics import BatchDiagnostics
from issl_engine.training.watch.heartbeat import Heartbeat
from issl_engine.training.watch.representation_alarm import GENERAL_ADVICE, RepresentationAlarm
from issl_engine.training.watch.slow_ranks import OwnWork, SlowRankAlarm
from issl_engine.training.watch.watcher import Watchers


def build_watchers(training: Training, heartbeat: Heartbeat) -> Watchers:
    """``heartbeat`` is the one that the watchdog reads. Every rank must call it."""
    recipe, plan, ranks = training.recipe, training.plan, training.ranks
    learner, objective = training.learner, training.learner.objective
    own_work = OwnWork(learner.encoder, ranks.device, compiled=recipe.training.compile)
    learner.own_work = own_work
    return Watchers(
        [
            heartbeat,
            collapse_alarm(objective),
            SkippedSteps(training.engine.guard, ranks),
            SlowRankAlarm(ranks, own_work),
            BatchDiagnostics(
                recipe.diagnostics, objective, ranks, log_every_steps=recipe.training.log_every_steps,
                assigned_rows=plan.loss_batch_size * ranks.world_size * recipe.views.num_global_views,
            ),
            DataAlarm(recipe.data),
            RepresentationAlarm(
                objective.diversity_advice or objective.collapse_advice or GENERAL_ADVICE,
                warmup_epochs=recipe.schedule.warmup_epochs,
            ),
        ]
    )  # fmt: skip
