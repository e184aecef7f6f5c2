"""One arm with one seed: pretrained, probed, measured, mapped. What is done already is not done again."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from issl_engine.diagnosis.diagnose import diagnose_learner
from issl_engine.diagnosis.measure import as_json
from issl_engine.layout import DIAGNOSTICS, RESOLVED, VIEWS
from issl_engine.loading.contact_sheet import write_contact_sheet
from issl_engine.probing.config import Network
from issl_engine.probing.judging.evaluate import evaluate
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.recipe.show import render
from issl_engine.run.dataset import load_dataset
from issl_engine.run.kept import Kept
from issl_engine.run.made_of import diagnosed_by, network_key, probed_by
from issl_engine.run.maps import keep_map
from issl_engine.run.over_training import probe_over_training
from issl_engine.run.probed import keep_probes
from issl_engine.run.readouts import probe_readouts
from issl_engine.run.together import measure_together
from issl_engine.sources.base import Dataset
from issl_engine.training.checkpoints.encoder import file_of
from issl_engine.training.checkpoints.layout import weight_files
from issl_engine.training.checkpoints.learner import load_learner
from issl_engine.training.checkpoints.manifest import Manifest, read_manifest
from issl_engine.training.learner import Learner
from issl_engine.training.lines import OnLog
from issl_engine.training.plan import Plan, make_plan, over_training_steps
from issl_engine.training.pretrain import pretrain
from issl_engine.training.watch.watchdog import OnHung
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")


def run_arm(
    recipe: Recipe, folder: Path, seed: int, ranks: Ranks, on_log: OnLog | None, on_hung: OnHung | None = None
) -> None:
    """Pretrains one encoder in ``folder`` (RUN/<arm>/seed<k>) on all ranks; the first one then measures it."""
    dataset = load_dataset(recipe)
    plan = make_plan(recipe, dataset, ranks)
    if ranks.is_first:
        _show_what_is_run(recipe, dataset, plan, folder, seed)
    ranks.barrier()
    checkpoint = pretrain(
        recipe, dataset, ranks, folder=folder, seed=seed, plan=plan, on_log=on_log, on_hung=on_hung
    )  # fmt: skip
    trained = Trained(checkpoint, dataset, ranks)
    measure_together(recipe, seed, ranks, lambda: _measure(trained, recipe, dataset, folder, seed))
    ranks.barrier()


def _show_what_is_run(recipe: Recipe, dataset: Dataset, plan: Plan, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RESOLVED, render(recipe, derived=asdict(plan)))
    # By the source's settings: to read all images for it would keep every rank waiting before training.
    key = recipe.model_dump(mode="json", include={"views", "source"}) | {"seed": seed}
    if recipe.training.image_share != 1:
        key["image_share"] = recipe.training.image_share
    images = dataset.pretraining_images
    Kept(folder).file(
        VIEWS, key, lambda path: write_contact_sheet(path, images, recipe.views, num_images=4, seed=seed)
    )  # fmt: skip


class Trained:
    """What a checkpoint holds, read from the disk once, and only when something is to be measured."""

    def __init__(self, checkpoint: Path, dataset: Dataset, ranks: Ranks) -> None:
        self.ranks = ranks
        self._checkpoint, self._dataset = checkpoint, dataset

    @cached_property
    def learner(self) -> Learner:
        """Encoder, heads and teacher, on the rank's device. Raises CheckpointError."""
        return load_learner(self._checkpoint, self._dataset, self.ranks)[0]

    def encoder(self, network: Network) -> nn.Module:
        """The encoder that takes gradients, or the EMA teacher's."""
        return self.learner.network(network)

    @property
    def step(self) -> int:
        """Optimiser steps that made it."""
        return self._manifest.step

    @property
    def weights(self) -> dict[str, str]:
        """File → its SHA-256: other weights give other results."""
        files = self._manifest.files
        return {name: files[name].sha256 for name in weight_files(files)}

    def weights_of(self, network: Network) -> str:
        """SHA-256 of the file with this network's weights."""
        return self._manifest.files[file_of(network, self._manifest)[0]].sha256

    @cached_property
    def _manifest(self) -> Manifest:
        return read_manifest(self._checkpoint)


def _measure(trained: Trained, recipe: Recipe, dataset: Dataset, folder: Path, seed: int) -> None:
    kept, evaluation = Kept(folder), recipe.evaluation
    if recipe.probes:
        shown = evaluation.shown_network
        key, make = _probing(trained, recipe, dataset, seed)
        keep_probes(kept, key, recipe, dataset, seed, make)
        keep_map(
            kept, Kept(folder.parent.parent), recipe, of=network_key({shown: trained.weights_of(shown)}),
            encoder=lambda: trained.encoder(shown), dataset=dataset, seed=seed, device=trained.ranks.device,
        )  # fmt: skip
        steps = sorted(over_training_steps(recipe, trained.step) - {trained.step})
        first = recipe.model_copy(update={"probes": recipe.probes[:1]})
        probe_over_training(
            folder, steps, lambda one: _probing(Trained(one, dataset, trained.ranks), first, dataset, seed)
        )  # fmt: skip
    if recipe.diagnostics.after_images is None:
        kept.drop(DIAGNOSTICS)
        return

    def diagnosis() -> dict[str, Any]:
        _log.info("%s: measuring the representation", folder)
        return as_json(diagnose_learner(trained.learner, recipe, dataset, trained.ranks, seed=seed))

    kept.json(DIAGNOSTICS, diagnosed_by(recipe, dataset, seed) | {"learner": trained.weights}, diagnosis)


def _probe_networks(trained: Trained, recipe: Recipe, dataset: Dataset, seed: int) -> list[ProbeResult]:
    """The recipe's probes on each network that it asks for."""
    return [
        result.of_network(network)
        for network in recipe.evaluation.networks
        for result in _probe_network(trained, network, _probes_for(network, recipe), dataset, seed)
    ]


def _probes_for(network: Network, recipe: Recipe) -> Recipe:
    """The recipe without the probes whose protocol is of the other network."""
    if not recipe.objective.uses_ema_teacher:
        return recipe
    return recipe.model_copy(update={"probes": tuple(probe for probe in recipe.probes if probe.is_for(network))})


def _probing(
    trained: Trained, recipe: Recipe, dataset: Dataset, seed: int
) -> tuple[dict[str, Any], Callable[[], list[ProbeResult]]]:
    """What the recipe's probes on a checkpoint depend on, and what makes their results."""
    encoders = network_key({network: trained.weights_of(network) for network in recipe.evaluation.networks})
    made_of = probed_by(recipe, dataset, seed) | encoders | _reads(recipe, trained.weights)
    return made_of, lambda: _probe_networks(trained, recipe, dataset, seed)


def _reads(recipe: Recipe, weights: dict[str, str]) -> dict[str, Any]:
    """What results depend on beside the encoder, where probes read something that the objective offers."""
    if not recipe.objective.offers_readouts:
        return {}
    return recipe.model_dump(mode="json", include={"objective"}) | {"learner": weights}


def _probe_network(
    trained: Trained, network: Network, recipe: Recipe, dataset: Dataset, seed: int
) -> list[ProbeResult]:  # fmt: skip
    """The recipe's probes on the encoder, or on what the objective offers in place of its representation."""
    objective, learner = recipe.objective, trained.learner
    return probe_readouts(
        learner.network(network),
        objective.readouts(learner.projector_of(network)) if objective.offers_readouts else [],
        lambda encoder: probe_encoder(encoder, recipe, dataset, seed=seed, ranks=trained.ranks),
    )  # fmt: skip


def probe_encoder(
    encoder: nn.Module | None, recipe: Recipe, dataset: Dataset, *, seed: int, ranks: Ranks
) -> list[ProbeResult]:
    """The recipe's probes on any encoder, on the first rank (``measure_together``); None probes the raw pixels."""
    return evaluate(
        encoder=encoder,
        dataset=dataset,
        evaluation=recipe.evaluation,
        probes=recipe.probes,
        preprocessing=recipe.preprocessing,
        seed=seed,
        device=ranks.device,
        num_threads=recipe.data.decode_threads,
        ranks=ranks,
    )
