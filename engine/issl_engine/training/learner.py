"""Encoder, objective and (where the objective wants one) EMA teacher: the module that DeepSpeed trains.

Letters: V views, the first G global; B images on this rank; D width of the representation; P of a projection.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from issl_engine.models.encoders.base import Encoder
from issl_engine.models.teacher import EmaTeacher
from issl_engine.objectives.base import Objective, ObjectiveOutput, Progress
from issl_engine.probing.config import Network
from issl_engine.regularizers.penalties import Penalties
from issl_engine.views.batch import MultiCropBatch

ViewBatching = Literal["by_size", "each"]


class LearnerOutput(NamedTuple):
    """``loss`` scalar with gradient; ``metrics`` detached scalars; ``z_GBD`` global views, detached."""

    loss: Tensor
    metrics: dict[str, Tensor]
    z_GBD: Tensor


class LearnerEmbeddings(NamedTuple):
    """``embeddings`` as the objective's ``embed`` gives them, with gradient; ``z_GBD`` global views, detached."""

    embeddings: tuple[Tensor, ...]
    z_GBD: Tensor


class Learner(nn.Module):
    """crops → encoder → heads → objective."""

    marks_passes = False
    """Whether each forward pass marks its beginning for recorded CUDA graphs (training.compile_mode)."""

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        *,
        num_global_views: int,
        channels_last: bool,
        view_batching: ViewBatching = "by_size",
        penalties: Penalties | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.penalties = penalties
        self.num_global_views = num_global_views
        self.view_batching: ViewBatching = view_batching
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.own_work: AbstractContextManager[object] = nullcontext()
        """Entered around the encoder's forward pass; training times it there (slow_ranks.py)."""
        self.teacher: EmaTeacher | None = None
        if objective.uses_ema_teacher:
            self.teacher = EmaTeacher(encoder, objective.projector)

    def forward(
        self, batch: MultiCropBatch, progress: Progress, embed_only: bool = False
    ) -> LearnerOutput | LearnerEmbeddings:
        """The batch's loss, or with ``embed_only`` what the objective's ``compare`` makes the loss of."""
        if self.marks_passes:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with self.own_work:
            z_VBD = self.encode(batch.crops)
        z_GBD = z_VBD[: self.num_global_views].detach()
        if embed_only:
            return LearnerEmbeddings(self.objective.embed(z_VBD), z_GBD)
        loss, metrics = self.loss(z_VBD, batch.ids, self.teacher_projections(batch), progress)
        return LearnerOutput(loss, metrics, z_GBD)

    def loss(self, z_VBD: Tensor, ids_B: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        """The objective's loss, and what regularisers add to it; ``ids_B`` as in the batch."""
        ids = (ids_B.to(z_VBD.device, non_blocking=True),) if self.objective.uses_image_ids else ()
        output: ObjectiveOutput = self.objective(z_VBD, teacher_GBP, progress, *ids)
        if self.penalties is not None:
            output = self.penalties(z_VBD[: self.num_global_views], output, progress)
        return output

    def network(self, name: Network) -> nn.Module:
        """The encoder that takes gradients, or the EMA teacher's."""
        if name == "student":
            return self.encoder
        assert self.teacher is not None, "a recipe that names the teacher has an objective with one"
        return self.teacher.encoder

    def projector_of(self, name: Network) -> nn.Module:
        """The head behind that encoder, of an objective with an EMA teacher."""
        if name == "student" or self.teacher is None:
            return self.objective.projector
        return self.teacher.projector

    def encode(self, crops: tuple[Tensor, ...]) -> Tensor:
        """Representations [V, B, D] of all crops, as encode_views."""
        return encode_views(self.encoder, crops, self.memory_format, self.view_batching)

    def after_step(self, progress: Progress, skipped: Tensor | None = None) -> None:
        """Moves the teacher, renormalises prototypes: whatever follows an optimiser step. ``skipped`` (scalar on the
        device, 1 if the step was left out, else 0) leaves this out too; None means that the step was made."""
        self.objective.after_step(progress, skipped)
        if self.teacher is not None:
            momentum = self.objective.ema_momentum(progress)
            self.teacher.update(self.encoder, self.objective.projector, momentum, skipped)

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """(name, parameter) of everything that gets a gradient: encoder and heads, never the teacher."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    def no_decay_parameters(self) -> set[str]:
        """Names of the weights that weight decay must not touch."""
        return {f"objective.{name}" for name in self.objective.no_decay_parameters()}

    @torch.no_grad()
    def teacher_projections(self, batch: MultiCropBatch) -> Tensor | None:
        """The EMA teacher's projections [G, B, P] of the global views, or None without such a teacher."""
        if self.teacher is None:
            return None
        crops = _global_crops(batch.crops, self.num_global_views)
        images = crops.flatten(0, 1).contiguous(memory_format=self.memory_format)
        projections: Tensor = self.teacher(images)  # [G * B, P]
        return torch.unflatten(projections, 0, crops.shape[:2])


def encode_views(
    encoder: nn.Module,
    crops: tuple[Tensor, ...],
    memory_format: torch.memory_format = torch.contiguous_format,
    view_batching: ViewBatching = "by_size",
) -> Tensor:
    """Representations z [V, B, D] of all crops, in the order of the groups; views of one size go through together, or
    with "each" every view alone.

    ``crops``: one tensor [count, B, 3, size, size] a crop group.
    """
    if view_batching == "each":
        return torch.stack([encoder(view.contiguous(memory_format=memory_format)) for crop in crops for view in crop])
    groups_of_size: dict[int, list[int]] = {}
    for index, crop in enumerate(crops):
        groups_of_size.setdefault(crop.shape[-1], []).append(index)
    encoded: dict[int, Tensor] = {}
    for indices in groups_of_size.values():
        together = torch.cat([crops[i] for i in indices]) if len(indices) > 1 else crops[indices[0]]
        z = encoder(together.flatten(0, 1).contiguous(memory_format=memory_format))
        parts = z.unflatten(0, together.shape[:2]).split([len(crops[i]) for i in indices])
        encoded.update(zip(indices, parts, strict=True))
    return torch.cat([encoded[i] for i in range(len(crops))])


def _global_crops(crops: tuple[Tensor, ...], num_global_views: int) -> Tensor:
    """The first G crops [G, B, 3, size, size]; whole groups of one size, as ViewsConfig checked."""
    groups, count = [], 0
    for crop in crops:
        if count == num_global_views:
            break
        groups.append(crop)
        count += len(crop)
    return torch.cat(groups) if len(groups) > 1 else groups[0]
