"""The parts of the DISSL loss that are worth logging."""

from typing import NamedTuple

from torch import Tensor


class DistillationTerms(NamedTuple):
    """Detached scalars over the global batch, in nats unless said otherwise."""

    distillation_ce: Tensor
    """Mean CE(teacher view i, student view j), i != j."""
    marginal_entropy: Tensor
    """H[M]: entropy of the teacher's mean prediction, mean over its views; at most ln C."""
    conditional_entropy: Tensor
    """H[M|Z]: mean entropy of the teacher's predictions."""
    invariance_ce: Tensor
    """Mean CE(teacher view i, teacher view i'), i != i'; 0 with one teacher view."""
    kl_invariance: Tensor
    """invariance_ce − conditional_entropy; 0 with one teacher view."""
    kl_distillation: Tensor
    """distillation_ce − conditional_entropy."""
    perplexity: Tensor
    """exp(marginal_entropy): classes in use, counted softly."""
    classes_used: Tensor
    """Classes that are some teacher row's most probable one."""
