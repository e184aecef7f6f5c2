"""The DISSL loss in blocks of images, recomputed in the backward pass.

Letters: G teacher views, V student views, B images on this rank, N of all ranks, C classes, b images of a block.
t teacher probabilities, log_t and log_s log-probabilities.

For a student view j the pairs need one pass: Σ_{i≠j} CE(t_i, s_j) = CE(Σ_{i≠j} t_i, s_j).
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_max_, all_reduce_sum_, world_size
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.precision import arithmetic_dtype, without_autocast
from issl_kernels.soft_cross_entropy.chunked import image_blocks, num_pairs


def distillation_chunked(
    teacher_GBC: Tensor,
    student_VBC: Tensor,
    *,
    teacher_temperature: float,
    student_temperature: float,
    entropy_weight: float,
    invariance_weight: float,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, DistillationTerms]:
    """As ``issl_kernels.distillation``."""
    loss, *terms = _Distillation.apply(
        teacher_GBC, student_VBC, teacher_temperature, student_temperature, entropy_weight, invariance_weight, group
    )
    return loss, DistillationTerms(*terms)


class _Distillation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        teacher_GBC: Tensor,
        student_VBC: Tensor,
        teacher_temperature: float,
        student_temperature: float,
        entropy_weight: float,
        invariance_weight: float,
        group: ProcessGroup | None,
    ) -> tuple[Tensor, ...]:
        dtype = arithmetic_dtype(teacher_GBC, student_VBC)
        device = teacher_GBC.device
        G, B, C = teacher_GBC.shape
        V = len(student_VBC)
        lse_GB = torch.empty(G, B, dtype=dtype, device=device)
        lse_VB = torch.empty(V, B, dtype=dtype, device=device)
        marginal_GC = torch.zeros(G, C, dtype=dtype, device=device)
        used_C = torch.zeros(C, dtype=dtype, device=device)
        sums = torch.zeros(3, dtype=dtype, device=device)  # distillation, invariance, conditional entropy
        for rows in image_blocks(B, C):
            t_GbC = torch.empty(G, rows.stop - rows.start, C, dtype=dtype, device=device)
            for i in range(G):
                logits_bC = teacher_GBC[i, rows].to(dtype) / teacher_temperature
                lse_GB[i, rows] = logits_bC.logsumexp(1)
                log_t_bC = logits_bC.sub_(lse_GB[i, rows, None])
                torch.exp(log_t_bC, out=t_GbC[i])
                sums[2] -= (log_t_bC * t_GbC[i]).sum()
                marginal_GC[i] += t_GbC[i].sum(0)
                used_C[t_GbC[i].argmax(1)] = 1
            all_bC = t_GbC.sum(0)
            if G > 1:
                for i in range(G):
                    log_t_bC = (teacher_GBC[i, rows].to(dtype) / teacher_temperature).sub_(lse_GB[i, rows, None])
                    sums[1] -= log_t_bC.mul_(all_bC - t_GbC[i]).sum()
            for j in range(V):
                logits_bC = student_VBC[j, rows].to(dtype) / student_temperature
                lse_VB[j, rows] = logits_bC.logsumexp(1)
                target_bC = all_bC - t_GbC[j] if j < G else all_bC
                sums[0] -= logits_bC.sub_(lse_VB[j, rows, None]).mul_(target_bC).sum()
        N = B * world_size(group)
        all_reduce_sum_(sums, group)
        all_reduce_sum_(marginal_GC, group).div_(N)
        all_reduce_max_(used_C, group)
        pairs, teacher_pairs = num_pairs(V, G, True), G * (G - 1)
        distillation_ce, conditional = sums[0] / (N * pairs), sums[2] / (N * G)
        invariance_ce = sums[1] / (N * max(1, teacher_pairs))
        entropy = torch.special.entr(marginal_GC).sum(1).mean()
        loss = distillation_ce - entropy_weight * entropy + invariance_weight * invariance_ce
        ctx.save_for_backward(teacher_GBC, student_VBC, lse_GB, lse_VB, marginal_GC)
        ctx.temperatures, ctx.weights = (teacher_temperature, student_temperature), (entropy_weight, invariance_weight)
        ctx.group, ctx.N = group, N
        kl_invariance = invariance_ce - conditional if G > 1 else torch.zeros_like(invariance_ce)
        terms = DistillationTerms(
            distillation_ce=distillation_ce.clone(),
            marginal_entropy=entropy,
            conditional_entropy=conditional,
            invariance_ce=invariance_ce.clone(),
            kl_invariance=kl_invariance,
            kl_distillation=distillation_ce - conditional,
            perplexity=entropy.exp(),
            classes_used=used_C.sum(),
        )
        ctx.mark_non_differentiable(*terms)
        return loss, *terms

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        teacher_GBC, student_VBC, lse_GB, lse_VB, marginal_GC = ctx.saved_tensors
        (teacher_temperature, student_temperature) = ctx.temperatures
        (entropy_weight, invariance_weight) = ctx.weights
        dtype = lse_GB.dtype
        G, B, C = teacher_GBC.shape
        V = len(student_VBC)
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        per_image = all_reduce_sum_(gradients[0].to(dtype).clone(), ctx.group) / ctx.N
        per_pair = per_image / num_pairs(V, G, True)
        per_teacher_pair = per_image * invariance_weight / max(1, G * (G - 1))
        # A class without mass has probability zero in every row, so its infinite slope is never multiplied in.
        log_marginal_GC = marginal_GC.clamp(min=torch.finfo(dtype).tiny).log()
        d_marginal_GC = (log_marginal_GC + 1) * (per_image * entropy_weight / G)
        d_teacher_GBC, d_student_VBC = torch.empty_like(teacher_GBC), torch.empty_like(student_VBC)
        for rows in image_blocks(B, C):
            log_t_GbC = (teacher_GBC[:, rows].to(dtype) / teacher_temperature).sub_(lse_GB[:, rows, None])
            t_GbC = log_t_GbC.exp()
            all_bC = t_GbC.sum(0)
            student_sum_bC, student_own_GbC = torch.zeros_like(all_bC), torch.zeros_like(t_GbC)
            for j in range(V):
                log_s_bC = (student_VBC[j, rows].to(dtype) / student_temperature).sub_(lse_VB[j, rows, None])
                student_sum_bC += log_s_bC
                target_bC, mass = (all_bC - t_GbC[j], G - 1) if j < G else (all_bC, G)
                if j < G:
                    student_own_GbC[j] = log_s_bC
                d_bC = log_s_bC.exp().mul_(mass).sub_(target_bC).mul_(per_pair / student_temperature)
                d_student_VBC[j, rows] = d_bC.to(student_VBC.dtype)
            log_t_sum_bC = log_t_GbC.sum(0)
            for i in range(G):
                slope_bC = (student_own_GbC[i] - student_sum_bC).mul_(per_pair).add_(d_marginal_GC[i])
                slope_bC += (log_t_GbC[i] - log_t_sum_bC).mul_(per_teacher_pair)
                mean_b1 = (slope_bC * t_GbC[i]).sum(1, keepdim=True)
                d_bC = slope_bC.sub_(mean_b1).mul_(t_GbC[i])
                d_bC += (t_GbC[i] * G - all_bC).mul_(per_teacher_pair)
                d_teacher_GBC[i, rows] = (d_bC / teacher_temperature).to(teacher_GBC.dtype)
        return d_teacher_GBC, d_student_VBC, None, None, None, None, None
