"""The DISSL loss in blocks of images, recomputed in the backward pass.

Letters: G teacher views, V student views, B images on this rank, N of all ranks, C classes, b images of a block.
t: teacher probabilities; below: logits divided by their temperature, less their row's maximum, so that
log-probability = below − log(sum), where sum is the row's sum of exp(below).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_max_, all_reduce_sum_
from issl_kernels.distillation.autograd import DistillationPath
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.view_pairs import below_maximum, image_blocks, num_pairs, shared_targets, sum_except


class Sums:
    """What the loss needs of this rank's images, which may come in blocks; reduced, of all ranks' images."""

    def __init__(self, G: int, C: int, dtype: torch.dtype, device: torch.device) -> None:
        self.cross = torch.zeros(3, dtype=dtype, device=device)
        """Σ over images of: distillation and invariance over pairs, conditional entropy over teacher views."""
        self.mass_GC = torch.zeros(G, C, dtype=dtype, device=device)
        self.used_C = torch.zeros(C, dtype=dtype, device=device)

    def add_mass(self, below_GbC: Tensor, t_GbC: Tensor) -> None:
        """Marginals and used classes of a block of teacher views."""
        self.mass_GC += t_GbC.sum(1)
        self.used_C[below_GbC.argmax(-1)] = 1

    def add_teacher(self, below_GbC: Tensor, t_GbC: Tensor, sum_Gb1: Tensor) -> None:
        """Cross terms of a block of teacher views."""
        log_sum = sum_Gb1.log().sum()
        self.cross[2] += log_sum - (t_GbC * below_GbC).sum()
        if len(t_GbC) > 1:
            self.cross[1] += log_sum * (len(t_GbC) - 1)
            for k, below_bC in enumerate(below_GbC):
                self.cross[1] -= (sum_except(t_GbC, k) * below_bC).sum()

    def add_student(self, below_VbC: Tensor, t_GbC: Tensor) -> Tensor:
        """Student views of a block; returns the sums of their exponentials. Overwrites ``below_VbC``."""
        pairs_V11 = below_VbC.new_zeros(len(below_VbC), 1, 1)
        for views, target_bC, count in shared_targets(t_GbC, len(below_VbC), True):
            pairs_V11[views] = count
            if target_bC is not None:
                self.cross[0] -= (below_VbC[views] * target_bC).sum()
        sum_Vb1 = below_VbC.exp_().sum(-1, keepdim=True)
        self.cross[0] += (sum_Vb1.log() * pairs_V11).sum()
        return sum_Vb1

    def reduce_mass(self, group: ProcessGroup | None) -> None:
        all_reduce_sum_(self.mass_GC, group)
        all_reduce_max_(self.used_C, group)

    def reduce_cross(self, group: ProcessGroup | None) -> None:
        all_reduce_sum_(self.cross, group)


def _probabilities(below_GbC: Tensor) -> tuple[Tensor, Tensor]:
    """(probabilities, sums of the exponentials) of rows below their maximum."""
    t_GbC = below_GbC.exp()
    sum_Gb1 = t_GbC.sum(-1, keepdim=True)
    return t_GbC.div_(sum_Gb1), sum_Gb1


def loss_and_terms(sums: Sums, settings: Settings, N: int, V: int) -> tuple[Tensor, Tensor, DistillationTerms]:
    """(loss, marginals [G, C], terms) from the sums over all ranks."""
    G = len(sums.mass_GC)
    marginal_GC = sums.mass_GC / N
    entropy = torch.special.entr(marginal_GC).sum(1).mean()
    distillation_ce, conditional = sums.cross[0] / (N * num_pairs(V, G, True)), sums.cross[2] / (N * G)
    invariance_ce = sums.cross[1] / (N * max(1, G * (G - 1)))
    loss = distillation_ce - settings.entropy_weight * entropy + settings.invariance_weight * invariance_ce
    terms = DistillationTerms(
        distillation_ce=distillation_ce,
        marginal_entropy=entropy,
        conditional_entropy=conditional,
        invariance_ce=invariance_ce,
        kl_invariance=invariance_ce - conditional if G > 1 else torch.zeros_like(conditional),
        kl_distillation=distillation_ce - conditional,
        perplexity=entropy.exp(),
        classes_used=sums.used_C.sum(),
    )
    return loss, marginal_GC, terms


class _Scales(NamedTuple):
    """The upstream gradient per pair, and the slope by the marginals [G, C]. The first two are 0-dim."""

    per_pair: Tensor
    per_teacher_pair: Tensor
    d_marginal_GC: Tensor

    @staticmethod
    def of(gradient: Tensor, marginal_GC: Tensor, settings: Settings, N: int, V: int) -> "_Scales":
        G = len(marginal_GC)
        per_image = gradient / N
        # A class without mass has probability zero in every row, so its infinite slope is never multiplied in.
        log_marginal_GC = marginal_GC.clamp(min=torch.finfo(marginal_GC.dtype).tiny).log()
        return _Scales(
            per_pair=per_image / num_pairs(V, G, True),
            per_teacher_pair=per_image * settings.invariance_weight / max(1, G * (G - 1)),
            d_marginal_GC=(log_marginal_GC + 1) * (per_image * settings.entropy_weight / G),
        )


def _store_d_teacher(d_GbC: Tensor, below_GbC: Tensor, below_VbC: Tensor, t_GbC: Tensor, scales: _Scales,
                     temperature: float) -> None:  # fmt: skip
    """Writes the gradient to a block of the teacher's logits. A constant added to a row's slopes changes nothing
    there, so the log-probabilities in them may stay unnormalised."""
    G, V = len(t_GbC), len(below_VbC)
    local_bC = below_VbC[G:].sum(0) if V > G else None
    for i, t_bC in enumerate(t_GbC):
        others_bC = sum_except(below_VbC[:G], i)
        students_bC = local_bC if others_bC is None else others_bC if local_bC is None else others_bC + local_bC
        assert students_bC is not None, "no pair"
        slope_bC = torch.addcmul(scales.d_marginal_GC[i], students_bC, scales.per_pair, value=-1)
        teachers_bC, targets_bC = sum_except(below_GbC, i), sum_except(t_GbC, i)
        if teachers_bC is not None:
            slope_bC.addcmul_(teachers_bC, scales.per_teacher_pair, value=-1)
        slope_bC -= (slope_bC * t_bC).sum(-1, keepdim=True)
        slope_bC *= t_bC
        if targets_bC is not None:
            slope_bC.addcmul_(t_bC, scales.per_teacher_pair, value=G - 1)
            slope_bC.addcmul_(targets_bC, scales.per_teacher_pair, value=-1)
        torch.div(slope_bC, temperature, out=d_GbC[i])


def _store_d_student(d_VbC: Tensor, below_VbC: Tensor, sum_Vb1: Tensor, t_GbC: Tensor, scale: Tensor) -> None:
    """Writes the gradient to a block of the student's logits. Overwrites ``below_VbC``."""
    s_VbC = below_VbC.exp_()
    for views, target_bC, count in shared_targets(t_GbC, len(s_VbC), True):
        if target_bC is None:
            d_VbC[views] = 0
        else:
            difference_vbC = s_VbC[views].mul_(count / sum_Vb1[views]).sub_(target_bC)
            torch.mul(difference_vbC, scale, out=d_VbC[views])


def add_mass_chunked(teacher_GBC: Tensor, settings: Settings, sums: Sums) -> None:
    """Adds the marginals and used classes of these images."""
    G, B, C = teacher_GBC.shape
    for rows in image_blocks(B, 2 * G * C):
        maximum_Gb1 = teacher_GBC[:, rows].amax(-1, keepdim=True).to(sums.mass_GC.dtype)
        below_GbC = below_maximum(teacher_GBC[:, rows], settings.teacher_temperature, maximum_Gb1)
        sums.add_mass(below_GbC, _probabilities(below_GbC)[0])


def add_cross_terms_chunked_(
    teacher_GBC: Tensor, student_VBC: Tensor, settings: Settings, sums: Sums, marginal_GC: Tensor, with_gradients: bool
) -> None:
    """Adds the cross terms of these images, whose marginals over all images are known already; then the gradient of
    (their number · the loss) overwrites the logits."""
    (G, B, C), V = teacher_GBC.shape, len(student_VBC)
    dtype = marginal_GC.dtype
    scales = _Scales.of(torch.ones_like(marginal_GC[0, 0]), marginal_GC, settings, 1, V)
    student_scale = scales.per_pair / settings.student_temperature
    for rows in image_blocks(B, (2 * V + 2 * G) * C):
        teacher_GbC, student_VbC = teacher_GBC[:, rows], student_VBC[:, rows]
        below_GbC = below_maximum(
            teacher_GbC, settings.teacher_temperature, teacher_GbC.amax(-1, keepdim=True).to(dtype)
        )
        below_VbC = below_maximum(
            student_VbC, settings.student_temperature, student_VbC.amax(-1, keepdim=True).to(dtype)
        )
        t_GbC, sum_Gb1 = _probabilities(below_GbC)
        sums.add_teacher(below_GbC, t_GbC, sum_Gb1)
        sum_Vb1 = sums.add_student(below_VbC.clone() if with_gradients else below_VbC, t_GbC)
        if with_gradients:
            _store_d_teacher(teacher_GbC, below_GbC, below_VbC, t_GbC, scales, settings.teacher_temperature)
            _store_d_student(student_VbC, below_VbC, sum_Vb1, t_GbC, student_scale)


def _forward(
    teacher_GBC: Tensor, student_VBC: Tensor, settings: Settings, num_images: int, group: ProcessGroup | None
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    dtype, device = arithmetic_dtype(teacher_GBC, student_VBC), teacher_GBC.device
    (G, B, C), V = teacher_GBC.shape, len(student_VBC)
    sums = Sums(G, C, dtype, device)
    maximum_GB1, maximum_VB1 = (torch.empty(n, B, 1, dtype=dtype, device=device) for n in (G, V))
    sum_GB1, sum_VB1 = torch.empty_like(maximum_GB1), torch.empty_like(maximum_VB1)
    for rows in image_blocks(B, (V + 2 * G) * C):
        maximum_GB1[:, rows] = teacher_GBC[:, rows].amax(-1, keepdim=True)
        below_GbC = below_maximum(teacher_GBC[:, rows], settings.teacher_temperature, maximum_GB1[:, rows])
        t_GbC, sum_GB1[:, rows] = _probabilities(below_GbC)
        sums.add_mass(below_GbC, t_GbC)
        sums.add_teacher(below_GbC, t_GbC, sum_GB1[:, rows])
        maximum_VB1[:, rows] = student_VBC[:, rows].amax(-1, keepdim=True)
        below_VbC = below_maximum(student_VBC[:, rows], settings.student_temperature, maximum_VB1[:, rows])
        sum_VB1[:, rows] = sums.add_student(below_VbC, t_GbC)
    sums.reduce_mass(group)
    sums.reduce_cross(group)
    loss, marginal_GC, terms = loss_and_terms(sums, settings, num_images, V)
    return loss, torch.stack(terms), (maximum_GB1, sum_GB1, maximum_VB1, sum_VB1, marginal_GC)


def _gradients(
    teacher_GBC: Tensor, student_VBC: Tensor, kept: tuple[Tensor, ...], upstream: Tensor, settings: Settings,
    num_images: int, overwrite_logits: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    maximum_GB1, sum_GB1, maximum_VB1, sum_VB1, marginal_GC = kept
    (G, B, C), V = teacher_GBC.shape, len(student_VBC)
    scales = _Scales.of(upstream, marginal_GC, settings, num_images, V)
    student_scale = scales.per_pair / settings.student_temperature
    logits = (teacher_GBC, student_VBC)
    d_teacher_GBC, d_student_VBC = logits if overwrite_logits else map(torch.empty_like, logits)
    for rows in image_blocks(B, (V + 2 * G) * C):
        below_GbC = below_maximum(teacher_GBC[:, rows], settings.teacher_temperature, maximum_GB1[:, rows])
        t_GbC = below_GbC.exp().div_(sum_GB1[:, rows])
        below_VbC = below_maximum(student_VBC[:, rows], settings.student_temperature, maximum_VB1[:, rows])
        _store_d_teacher(d_teacher_GBC[:, rows], below_GbC, below_VbC, t_GbC, scales, settings.teacher_temperature)
        _store_d_student(d_student_VBC[:, rows], below_VbC, sum_VB1[:, rows], t_GbC, student_scale)
    return d_teacher_GBC, d_student_VBC


CHUNKED = DistillationPath(_forward, _gradients)
