"""Losses of self-supervised learning, fused and memory-lean; usable alone, with torch and nothing of the engine."""

from issl_kernels.cross_correlation import cross_correlation
from issl_kernels.distillation import DistillationTerms, distillation
from issl_kernels.info_nce import info_nce
from issl_kernels.sinkhorn import sinkhorn
from issl_kernels.soft_cross_entropy import soft_cross_entropy

__all__ = ["DistillationTerms", "cross_correlation", "distillation", "info_nce", "sinkhorn", "soft_cross_entropy"]
