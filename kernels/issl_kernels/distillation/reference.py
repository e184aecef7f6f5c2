"""The definition of the DISSL loss in plain torch: every pair of views on its own. Use it in fp64.

Letters: G teacher views, V student views, B images per rank, C classes.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum, gather_rows, world_size
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.precision import widened


def distillation_reference(
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
    teacher_GBC, student_VBC = widened(teacher_GBC, student_VBC)
    log_t_GBC = (teacher_GBC / teacher_temperature).log_softmax(-1)
    log_s_VBC = (student_VBC / student_temperature).log_softmax(-1)
    t_GBC = log_t_GBC.exp()
    G, V = len(log_t_GBC), len(log_s_VBC)

    def global_mean(value: Tensor) -> Tensor:
        return all_reduce_sum(value.mean(), group) / world_size(group)

    distilled = torch.stack([-(t_GBC[i] * log_s_VBC[j]).sum(-1).mean() for i in range(G) for j in range(V) if i != j])
    invariant = [-(t_GBC[i] * log_t_GBC[k]).sum(-1).mean() for i in range(G) for k in range(G) if i != k]
    distillation_ce = global_mean(distilled)
    invariance_ce = global_mean(torch.stack(invariant)) if invariant else distillation_ce.new_zeros(())
    marginal_GC = gather_rows(t_GBC, group, dim=1).mean(1)
    # The clamp keeps the slope of a class without mass finite: zero times infinity would be NaN in the softmax.
    log_marginal_GC = marginal_GC.clamp(min=torch.finfo(marginal_GC.dtype).tiny).log()
    marginal_entropy = -(marginal_GC * log_marginal_GC).sum(-1).mean()
    loss = distillation_ce - entropy_weight * marginal_entropy + invariance_weight * invariance_ce
    conditional = global_mean(-(t_GBC * log_t_GBC).sum(-1))
    used = len(torch.unique(gather_rows(t_GBC.argmax(-1), group, dim=1)))
    terms = DistillationTerms(
        distillation_ce=distillation_ce,
        marginal_entropy=marginal_entropy,
        conditional_entropy=conditional,
        invariance_ce=invariance_ce,
        kl_invariance=invariance_ce - conditional if invariant else invariance_ce,
        kl_distillation=distillation_ce - conditional,
        perplexity=marginal_entropy.exp(),
        classes_used=torch.tensor(float(used), device=t_GBC.device),
    )
    return loss, DistillationTerms(*(term.detach() for term in terms))
