"""Other libraries' losses. Each is imported only when it is to run; none is a dependency.

Signatures as of lightly 1.6, liger-kernel 0.8 and Inf-CL's ``inf_cl``.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import torch

from issl_engine.mistakes import Mistake
from issl_kernels.case import Case
from issl_kernels.distillation.cases import DistillationCase
from issl_kernels.info_nce.cases import InfoNCECase
from issl_kernels.soft_cross_entropy.cases import SoftCrossEntropyCase
from issl_profiling.kernels.passes import Tensors
from issl_profiling.kernels.provider import Provider
from issl_profiling.torchvision_oracle import load_torchvision


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another library's function for one of our operations."""

    name: str
    operation: str
    build: Callable[[Case, str], Provider]
    """Imports it; raises ImportError where it is missing and Mistake for a case that it does not compute."""
    needs_gpu: bool = False

    def provider(self, case: Case, device: torch.device) -> Provider:
        """For this case. Raises what the library's import raises, or Mistake with the reason."""
        if self.needs_gpu and device.type != "cuda":
            raise Mistake("needs an NVIDIA GPU")
        return self.build(case, self.name)


def _ntxent(case: Case, name: str) -> Provider:
    """SimCLR's loss between two views, which are anchors and targets both; it normalises its rows once more."""
    assert isinstance(case, InfoNCECase)
    if case.keep_self or (case.V, case.G) != (2, 2) or case.row_norm != 1:
        raise Mistake("takes two views of rows of length one and drops the own row")
    loss = _lightly_losses().NTXentLoss(temperature=case.temperature)
    return Provider(
        name=name,
        call=lambda inputs: loss(*inputs),
        prepare=lambda inputs: (inputs[0][0].clone(), inputs[0][1].clone()),
        inputs_for_ours=lambda inputs: (inputs[0], inputs[0]),
        differentiable_inputs=2,
        other_library=True,
    )


def _inf_cl(case: Case, name: str) -> Provider:
    """Its loss has one positive an anchor; ours, their mean. The difference is a few dot products, added here."""
    assert isinstance(case, InfoNCECase)
    if not case.keep_self or case.V != case.G:
        raise Mistake("keeps the own row and takes as many target views as anchor views")
    if case.D not in (16, 32, 64, 128) and case.D % 256:
        raise Mistake(f"takes a width of 16, 32, 64, 128 or a multiple of 256, not {case.D}")
    from inf_cl import cal_inf_loss

    def call(inputs: Tensors) -> torch.Tensor:
        anchors_VBD, targets_GBD = inputs
        anchors_VBD = anchors_VBD / case.temperature  # its own scale is reduced over ranks, which there are none of
        anchors_AD, targets_AD = anchors_VBD.flatten(0, 1), targets_GBD.flatten(0, 1)
        loss: torch.Tensor = cal_inf_loss(anchors_AD, targets_AD, head_dim=min(case.D, 256))
        if case.G == 1:
            return loss
        own_AD, mean_BD = targets_AD.float(), targets_GBD.float().mean(0)
        missing_VBD: torch.Tensor = own_AD.view_as(targets_GBD) - mean_BD
        return loss + (anchors_VBD * missing_VBD).sum(-1).mean()

    return Provider(name=name, call=call, differentiable_inputs=2, other_library=True)


def _dino(case: Case, name: str) -> Provider:
    """Given the logs of our targets, at temperature one and a centre that stays zero, its teacher is our targets.

    It therefore does more than ours: a softmax over the teacher, and the centre's mean.
    """
    assert isinstance(case, SoftCrossEntropyCase)
    if not case.skip_same_view:
        raise Mistake("leaves out pairs of the same view")
    DINOLoss = _lightly_losses().DINOLoss
    losses: dict[torch.dtype, torch.nn.Module] = {}

    def call(inputs: Tensors) -> torch.Tensor:
        student_VBC, teacher_GBC = inputs
        if student_VBC.dtype not in losses:  # its centre must have the dtype of the logits
            made = DINOLoss(output_dim=case.C, teacher_temp=1.0, student_temp=case.temperature, center_momentum=1.0)
            losses[student_VBC.dtype] = made.to(student_VBC)
        loss: torch.Tensor = losses[student_VBC.dtype](list(teacher_GBC), list(student_VBC))
        return loss

    return Provider(
        name=name,
        call=call,
        prepare=lambda inputs: (inputs[0], _log(inputs[1])),
        differentiable_inputs=1,
        other_library=True,
    )


def _jsd(case: Case, name: str) -> Provider:
    """Divergence of each student view from one target view: it reads what a distillation reads, but is no such loss."""
    assert isinstance(case, SoftCrossEntropyCase | DistillationCase)
    from liger_kernel.transformers import LigerJSD

    divergence = LigerJSD(beta=0.5)
    if isinstance(case, DistillationCase):
        temperature = case.student_temperature
        teacher_temperature = case.teacher_temperature
    else:
        temperature = case.temperature

    def prepare(inputs: Tensors) -> Tensors:
        if isinstance(case, DistillationCase):
            student_VBC, log_targets_GBC = inputs[1], (inputs[0] / teacher_temperature).log_softmax(-1)
        else:
            student_VBC, log_targets_GBC = inputs[0], _log(inputs[1])
        view_of_student = (torch.arange(case.V, device=student_VBC.device) + 1) % case.G
        return student_VBC, log_targets_GBC[view_of_student].flatten(0, 1)

    def call(inputs: Tensors) -> torch.Tensor:
        student_VBC, log_targets_RC = inputs
        loss: torch.Tensor = divergence((student_VBC / temperature).log_softmax(-1).flatten(0, 1), log_targets_RC)
        return loss

    return Provider(name=name, call=call, prepare=prepare, differentiable_inputs=1, same_loss=False, other_library=True)


def _linear_jsd(case: Case, name: str) -> Provider:
    """As ``_jsd``, from features and without biases. It makes its gradients in the forward pass: compare ``both``."""
    from liger_kernel.transformers import LigerFusedLinearJSD

    divergence = LigerFusedLinearJSD(jsd_beta=0.5)

    def prepare(inputs: Tensors) -> Tensors:
        teacher_GBH, teacher_CH, _, student_VBH, student_CH, _ = inputs
        view_of_student = (torch.arange(len(student_VBH), device=student_VBH.device) + 1) % len(teacher_GBH)
        dtype = student_VBH.dtype
        teacher_RH = teacher_GBH[view_of_student].flatten(0, 1)
        return student_VBH.flatten(0, 1), student_CH.to(dtype), teacher_RH, teacher_CH.to(dtype)

    def call(inputs: Tensors) -> torch.Tensor:
        loss: torch.Tensor = divergence(*inputs, None)
        return loss

    return Provider(name=name, call=call, prepare=prepare, differentiable_inputs=2, same_loss=False, other_library=True)


def _lightly_losses() -> ModuleType:
    """``lightly.loss``, also where torchvision, which it imports, does not load by itself. Raises
    ImportError with the command that installs it."""
    with suppress(ImportError):  # lightly's own import tells
        load_torchvision()
    try:
        return import_module("lightly.loss")
    except ImportError as error:
        raise ImportError(f"{error}; install it with: pip install 'issl-engine[peers]'") from error


def _log(probabilities: torch.Tensor) -> torch.Tensor:
    """Finite, as a mean over what is minus infinity would be."""
    return probabilities.clamp(min=math.exp(-60)).log()


PEERS = (
    Peer(name="lightly-ntxent", operation="info_nce", build=_ntxent),
    Peer(name="inf-cl", operation="info_nce", build=_inf_cl, needs_gpu=True),
    Peer(name="lightly-dino", operation="soft_cross_entropy", build=_dino),
    Peer(name="liger-jsd", operation="soft_cross_entropy", build=_jsd, needs_gpu=True),
    Peer(name="liger-jsd", operation="distillation", build=_jsd, needs_gpu=True),
    Peer(name="liger-linear-jsd", operation="linear_distillation", build=_linear_jsd, needs_gpu=True),
)
