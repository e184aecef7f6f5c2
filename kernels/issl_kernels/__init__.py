"""Losses of self-supervised learning, fused and memory-lean; usable alone, with torch and nothing of the engine."""

from issl_kernels.cross_correlation import cross_correlation
from issl_kernels.distillation import DistillationTerms, distillation
from issl_kernels.info_nce import InfoNCETerms, info_nce, info_nce_with_terms
from issl_kernels.linear_distillation import linear_distillation
from issl_kernels.linear_soft_cross_entropy import LinearTeacher, linear_soft_cross_entropy
from issl_kernels.path import kernel_path, set_kernel_path
from issl_kernels.sigmoid_contrastive import sigmoid_contrastive
from issl_kernels.sinkhorn import sinkhorn
from issl_kernels.soft_cross_entropy import soft_cross_entropy

__all__ = [
    "DistillationTerms",
    "InfoNCETerms",
    "LinearTeacher",
    "cross_correlation",
    "distillation",
    "info_nce",
    "info_nce_with_terms",
    "kernel_path",
    "linear_distillation",
    "linear_soft_cross_entropy",
    "set_kernel_path",
    "sigmoid_contrastive",
    "sinkhorn",
    "soft_cross_entropy",
]
