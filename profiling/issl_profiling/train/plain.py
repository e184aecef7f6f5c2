"""A trainer written by hand in plain PyTorch: torchvision's transforms in DataLoader workers, eager losses, no engine.

Encoder, heads, crops, optimiser, batch, precision and threads are the recipe's, and the loss is the kernels' eager
``reference`` path. It takes what a careful researcher takes: crops of one size in one forward pass, channels-last,
autocast, gradients set to None. It has no online probe, which ours has where the recipe says so.
"""

import torch
from torch import Tensor, nn

from issl_engine.mistakes import Mistake
from issl_engine.models.teacher import EmaTeacher
from issl_engine.training.build import build_encoder
from issl_kernels.path import kernel_path
from issl_profiling.data.torchvision_loader import Backend, TorchvisionViews, no_counterpart
from issl_profiling.train.candidate import PLAIN, Candidate, LeftOut, Shares
from issl_profiling.train.case import TrainCase
from issl_profiling.train.our_parts import StepFlops
from issl_profiling.train.shares import SharesClock

BACKEND: Backend = "PIL"
"""Images that torchvision's transforms work on: on small and on large ones as fast as tensors, or faster."""


def plain_candidate(case: TrainCase, flops: StepFlops) -> Candidate | LeftOut:
    """The trainer, or why it cannot train this recipe."""
    reason = no_counterpart(case.recipe.views)
    if reason is None and case.recipe.training.exact_accumulation:
        reason = "training.exact_accumulation has no counterpart in it"
    if reason is not None:
        return LeftOut(name=PLAIN, reason=reason)
    return Candidate(
        kind="plain", name=PLAIN, start=lambda: PlainTraining(case), warmup_steps=workers_ahead(case),
        flops=flops.learner,
    )  # fmt: skip


def workers_ahead(case: TrainCase) -> int:
    """Steps until what DataLoader's workers made ahead while nobody asked is used up, and one more."""
    data = case.recipe.data
    return -(-data.prefetch_batches * data.decode_threads // case.passes) + 1


class PlainTraining:
    """The loop and its state."""

    def __init__(self, case: TrainCase) -> None:
        self.case, self.device = case, case.ranks.device
        encoder = build_encoder(case.recipe, case.seed)
        self.objective = case.recipe.objective.build(case.objective_shape(encoder.dim), None).to(self.device)
        self.encoder = encoder.to(self.device)
        self.memory_format = torch.contiguous_format
        if case.recipe.training.channels_last:
            self.memory_format = torch.channels_last
            self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher: EmaTeacher | None = None
        if self.objective.uses_image_ids:
            raise Mistake(
                f"objective {case.recipe.objective.name} needs the images' indices, which the plain PyTorch loop of "
                "bench train does not pass on; choose another objective"
            )
        if self.objective.uses_ema_teacher:
            self.teacher = EmaTeacher(self.encoder, self.objective.projector)
        self.model = nn.ModuleDict({"encoder": self.encoder, "objective": self.objective}).train()
        self.optimizer = case.recipe.optimizer.build(
            list(self.model.named_parameters()),
            no_decay={f"objective.{name}" for name in self.objective.no_decay_parameters()},
            lr=case.plan.peak_lr,
        )
        self.batches = TorchvisionViews(case.loader, BACKEND)
        self.clock = SharesClock(self.device)

    def step(self) -> None:
        training = self.case.recipe.training
        with self.clock.step():
            for _ in range(self.case.passes):
                with self.clock.waiting():
                    views = [view.to(self.device, non_blocking=True) for view in next(self.batches)]
                with kernel_path("reference"), self.case.autocast():
                    loss = self._loss(views) / self.case.passes
                with kernel_path("reference"):
                    loss.backward()  # type: ignore[no-untyped-call]
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            if training.clip_gradient_value is not None:
                nn.utils.clip_grad_value_(parameters, training.clip_gradient_value)
            if training.clip_gradient_norm is not None:
                nn.utils.clip_grad_norm_(parameters, training.clip_gradient_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(self.case.progress)
        if self.teacher is not None:
            momentum = self.objective.ema_momentum(self.case.progress)
            self.teacher.update(self.encoder, self.objective.projector, momentum)
        float(loss.detach())

    def _loss(self, views: list[Tensor]) -> Tensor:
        global_views = views[: self.case.recipe.views.num_global_views]
        teacher = None
        if self.teacher is not None:
            together = torch.cat(global_views).contiguous(memory_format=self.memory_format)
            teacher = self.teacher(together).unflatten(0, (len(global_views), -1))
        loss: Tensor = self.objective(self._encode(views), teacher, self.case.progress).loss
        return loss

    def _encode(self, views: list[Tensor]) -> Tensor:
        """Representations [V, B, D] in the views' order; neighbours of one size go through together."""
        encoded: list[Tensor] = []
        first = 0
        while first < len(views):
            last = first
            while last < len(views) and views[last].shape == views[first].shape:
                last += 1
            together = torch.cat(views[first:last]).contiguous(memory_format=self.memory_format)
            encoded += self.encoder(together).chunk(last - first)
            first = last
        return torch.stack(encoded)

    def start_of_timing(self) -> None:
        self.clock.restart()

    def shares(self) -> Shares:
        return self.clock.shares()

    def close(self) -> None:
        self.batches.close()
