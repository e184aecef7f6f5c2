"""What an objective is to the training loop: representations in, a scalar loss out.

Letters: V views (crops) per image, the first G of them global; B images on this rank; D width of a
representation; P width of a projection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.ranges import Range


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands: ``step`` optimiser steps are already done."""

    step: int
    steps_per_epoch: int
    total_steps: int

    @property
    def epoch(self) -> float:
        """Epochs done, fractional."""
        return self.step / self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Share of all steps done, 0 to 1."""
        return self.step / self.total_steps


@dataclass(frozen=True, kw_only=True)
class ObjectiveShape:
    """The sizes an objective is built for. ``batch_size`` is the images of one rank that one loss sees: those of a
    forward pass, or of all forward passes of a step with ``training.exact_accumulation``. ``num_images`` is how many
    images pretraining sees, None where no data is loaded."""

    feature_dim: int
    num_views: int
    num_global_views: int
    batch_size: int
    world_size: int = 1
    num_images: int | None = None

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    def check_two_views(self, name: str) -> None:
        """Raises Mistake where there is only one view, so that nothing can be compared."""
        if self.num_views < 2:
            raise Mistake(f"objective {name} compares views: views.groups must give at least 2 crops per image")

    def check_other_images(self, name: str, kind: str = "objective") -> None:
        """Raises Mistake where a forward pass holds a single image and the loss needs others beside it."""
        if self.global_batch_size < 2:
            raise Mistake(
                f"{kind} {name} compares different images, and a forward pass holds only one; make "
                "training.global_batch_size larger or training.accumulation_steps smaller"
            )


class ObjectiveOutput(NamedTuple):
    """``loss``: scalar with gradient, in nats unless the objective says otherwise. ``metrics``: detached
    scalars."""

    loss: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Readout:
    """``module`` maps representations [N, D] to what a probe reads, [N, D']. ``name`` and ``value`` are the
    hyper-parameter that sets it apart from the method's other readings."""

    module: nn.Module
    name: str
    value: float


class AssignmentMetrics(NamedTuple):
    """Which of an objective's metrics say how it uses its classes (or prototypes)."""

    num_classes: int
    perplexity: str
    """Name of the metric that is exp of the entropy of the mean assignment."""
    used: str
    """Name of the metric that counts the classes that are some row's most probable one."""


class Objective(nn.Module):
    """Heads and loss of one method.

    Over several ranks the loss is that of the global batch, and the gradient to this rank's rows is
    world-size times their share of it, so that averaging gradients over ranks gives the one-process gradient.
    """

    projector: nn.Module
    """The head that an EMA teacher copies beside the encoder; only objectives with ``uses_ema_teacher`` have
    one."""

    uses_ema_teacher: bool = False
    """As its Config's."""

    uses_image_ids: bool = False
    """Whether ``forward`` takes a further argument ``ids_B``, int64 [B]: each image's place among those that
    pretraining sees."""

    collapse_loss: float | None = None
    """The value at which the loss sits when the representation has collapsed (ln K for SwAV), if it has
    one."""

    collapse_advice: str = ""
    """What to change after a collapse; names keys of the recipe."""

    uninformed_metric: tuple[str, float] | None = None
    """(name of a metric, value at which it sits while the representation says nothing), for objectives whose loss does
    not show it: this metric is watched instead."""

    diversity_advice: str = ""
    """What to change when the representation is constant, varies in few directions, or leaves classes unused: names
    keys of the recipe; empty for ``collapse_advice``."""

    assignment_metrics: AssignmentMetrics | None = None
    """Of objectives that assign images to classes or prototypes: diagnostics read them."""

    def ema_momentum(self, progress: Progress) -> float:
        """Share of the teacher's weights kept at this step."""
        raise AssertionError(f"{type(self).__name__} has no EMA teacher")

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        """The loss of this rank's representations; ``teacher_GBP`` is the EMA teacher's projection of the
        global views (no gradient), None for objectives without one."""
        raise AssertionError(f"{type(self).__name__} must implement forward")

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """What the loss compares: the heads' outputs, each [views, B, width]. Only objectives whose Config has
        ``loss_compares_embeddings``; their ``forward`` is ``compare`` of ``embed``."""
        raise AssertionError(f"{type(self).__name__} has no embeddings apart from its loss")

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        """The loss of ``embed``'s outputs, of one forward pass or of several joined along the images."""
        raise AssertionError(f"{type(self).__name__} has no loss apart from its embeddings")

    def after_step(self, progress: Progress, skipped: Tensor | None = None) -> None:
        """Called after every optimiser step (re-normalise prototypes, ...). ``skipped``: a scalar on the device; where
        it is 1 the step was left out, and nothing may change here either. None means that it was made."""

    def rewritten_weights(self) -> tuple[nn.Parameter, ...]:
        """The weights that ``after_step`` writes although the optimiser owns them: ZeRO keeps copies that must
        follow."""
        return ()

    def no_decay_parameters(self) -> set[str]:
        """Names (as in ``named_parameters``) of the weights that weight decay must not touch, beyond biases
        and norms."""
        return set()


class ObjectiveConfig(Config):
    """Base of every objective's Config: its ``name`` is a Literal, its defaults are the published ones."""

    name: str

    search_ranges: ClassVar[Mapping[str, Range]] = {}
    """Key → the values that ``issl-engine search`` tries unless the recipe says otherwise: those that authors tuned."""
    loss_compares_embeddings: ClassVar[bool] = False
    """Whether the Module has ``embed`` and ``compare``, as ``training.exact_accumulation`` needs."""

    uses_ema_teacher: ClassVar[bool] = False
    """Whether a slow copy of encoder and projector, the EMA teacher, is trained beside them: a second network that
    ``evaluation.network`` can name."""

    def unfit_for_search(self) -> str | None:
        """Why a search should not try these settings together although a recipe may have them; None where it may."""
        return None

    has_predictor: ClassVar[bool] = False
    """Whether the Module has a ``predictor``, as ``optimizer.groups`` may ask for."""

    @property
    def offers_readouts(self) -> bool:
        """Whether probes read something of the objective in place of the representation: see ``readouts``."""
        return False

    def readouts(self, projector: nn.Module) -> list[Readout]:
        """What probes read, several readings, among which held-out images choose. ``projector`` is that of the network
        which is probed: the objective's own, or the EMA teacher's. Only where ``offers_readouts``."""
        raise AssertionError(f"{type(self).__name__} has no readouts")

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        """The objective with freshly initialised heads; ``group`` None means this process alone."""
        raise AssertionError(f"{type(self).__name__} must implement build")
