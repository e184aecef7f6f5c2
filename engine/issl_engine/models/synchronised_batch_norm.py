"""Batch-norm over the rows of all ranks, on any device and backend.

Letters: C channels; R ranks; N rows of a channel over all ranks (images x height x width), n those of one rank.

Each rank sends its count, its mean and the squares around that mean, and joins those of all ranks (Chan, Golub and
LeVeque 1983, "Algorithms for Computing the Sample Variance"), which loses no digits where a mean is large beside its
spread, as a sum of squares would:

    mean = Σ_r n_r mean_r / N        M = Σ_r (M_r + n_r (mean_r − mean)²)        x̂ = (x − mean) / sqrt(M / N + ε)

With y = w x̂ + b and the gradient g of y, two sums go over the ranks on the way back:

    ∂x = w / sqrt(M / N + ε) · (g − (Σ g + x̂ Σ g x̂) / N)

The gradients of w and b stay those of this rank's rows: the engine averages them as every parameter's.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup
from torch.nn.modules.batchnorm import _BatchNorm

from issl_kernels.collectives import all_gather, all_reduce_sum_
from issl_kernels.precision import arithmetic_dtype


class SynchronisedBatchNorm(_BatchNorm):
    """nn.BatchNorm1d and 2d whose statistics are those of the joined batch of ``group``; None means this process alone.

    Inputs [rows, C, ...]; the ranks may hold different numbers of rows, or none. Statistics are fp32 (fp64 for fp64)
    whatever the input's dtype, which the output has too. Running statistics become those of one process that holds all
    rows, so that every rank keeps the same; ``momentum`` None averages all batches, as in torch. In eval mode it is
    torch's batch-norm, without communication. Every rank must run it equally often.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        group: ProcessGroup | None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Raises ValueError, as torch's batch-norms do, for an input without channels."""
        self._check_input_dim(x)
        if self.group is None or not (self.training or self.running_mean is None):
            output: Tensor = super().forward(x)
            return output
        output, mean_C, squares_C, count = _normalise(x, self.weight, self.bias, self.eps, self.group)
        if self.training and self.track_running_stats:
            self._follow(mean_C, squares_C, count)
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(
                f"batch-norm of {self.num_features} channels takes [rows, {self.num_features}, ...], "
                f"not {list(input.shape)}"
            )

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, squares_C: Tensor, count: Tensor) -> None:
        """Moves the running statistics towards this batch's; as in torch, the variance is then divided by N − 1."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share: float | Tensor = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        variance_C = squares_C / (count - 1).clamp(min=1)
        for running_C, new_C in ((self.running_mean, mean_C), (self.running_var, variance_C)):
            running_C.add_((new_C.to(running_C.dtype) - running_C) * share)


def synchronise_batch_norm(module: nn.Module, group: ProcessGroup) -> nn.Module:
    """The module with every batch-norm in it replaced by one over ``group``, which takes over its parameters, buffers
    and names."""
    if isinstance(module, _BatchNorm):
        return _over_group(module, group)
    for name, child in module.named_children():
        setattr(module, name, synchronise_batch_norm(child, group))
    return module


def _over_group(old: _BatchNorm, group: ProcessGroup) -> SynchronisedBatchNorm:
    new = SynchronisedBatchNorm(
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, group=group
    )
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _normalise(
    x: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float, group: ProcessGroup
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(output as x, mean [C], squares around it [C], N): the last three without gradient."""
    results: tuple[Tensor, Tensor, Tensor, Tensor] = _Normalise.apply(  # type: ignore[no-untyped-call]
        x, weight_C, bias_C, eps, group
    )
    return results


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float, group: ProcessGroup
    ) -> tuple[Tensor, ...]:
        mean_C, squares_C, count = _joined_statistics(x, group)
        inverse_C = (squares_C / count + eps).rsqrt()
        normal = _normal(x, mean_C, inverse_C)
        output = normal if weight_C is None else normal * _across(weight_C, x)
        output = output if bias_C is None else output + _across(bias_C, x)
        ctx.save_for_backward(x, weight_C, mean_C, inverse_C, count)
        ctx.group = group
        ctx.mark_non_differentiable(mean_C, squares_C, count)
        return output.to(x.dtype), mean_C, squares_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_C, inverse_C, count = ctx.saved_tensors
        g = gradients[0].to(mean_C.dtype)
        normal = _normal(x, mean_C, inverse_C)
        sums_2C = torch.stack((_over_rows(g), _over_rows(g * normal)))
        of_weight = sums_2C[1].to(weight_C.dtype) if ctx.needs_input_grad[1] else None
        of_bias = sums_2C[0].clone() if ctx.needs_input_grad[2] else None
        # Every rank comes here or none does: the reduction stands outside of any question about this rank's inputs.
        g_C, g_normal_C = all_reduce_sum_(sums_2C.clone(), ctx.group) / count
        scale_C = inverse_C if weight_C is None else inverse_C * weight_C
        of_x = (g - _across(g_C, x) - normal * _across(g_normal_C, x)) * _across(scale_C, x)
        return of_x.to(x.dtype), of_weight, of_bias, None, None


def _joined_statistics(x: Tensor, group: ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [C], sum of squares around it [C], N) over the rows of all ranks, by one gather of 2 C + 1 numbers."""
    values = x.to(arithmetic_dtype(x))
    rows = values.numel() // values.shape[1]
    own_C = _over_rows(values) / max(rows, 1)
    own_squares_C = _over_rows((values - _across(own_C, x)).square())
    own = torch.cat((own_C, own_squares_C, own_C.new_full((1,), rows)))
    all_RS = all_gather(own[None], group)
    means_RC, squares_RC = all_RS[:, :-1].chunk(2, dim=1)
    counts_R1 = all_RS[:, -1:]
    count = counts_R1.sum()
    mean_C = (counts_R1 * means_RC).sum(0) / count
    squares_C = (squares_RC + counts_R1 * (means_RC - mean_C).square()).sum(0)
    return mean_C, squares_C, count


def _normal(x: Tensor, mean_C: Tensor, inverse_C: Tensor) -> Tensor:
    return (x.to(mean_C.dtype) - _across(mean_C, x)) * _across(inverse_C, x)


def _over_rows(x: Tensor) -> Tensor:
    """Sums [C] over all axes but the channels'."""
    return x.sum([axis for axis in range(x.ndim) if axis != 1])


def _across(values_C: Tensor, x: Tensor) -> Tensor:
    """[C] shaped so that it meets the channels of ``x``."""
    return values_C.view(1, -1, *(1,) * (x.ndim - 2))
