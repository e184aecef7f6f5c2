"""SGD with momentum whose step is scaled tensor by tensor: LARC and LARS (You, Gitman and Ginsburg, 2017).

For a parameter tensor w with gradient g, learning rate r, weight decay d, trust coefficient c and momentum m:

    q = c |w| / (|g| + d |w|)        the trust ratio; 1 where |w| or |g| is 0
    q = min(q / r, 1)                with ``clip`` only: the step r q is then never longer than r
    u <- m u + q (g + d w)
    w <- w - r u
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, overload

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.optim.base import NamedParameters, OptimizerConfig
from issl_engine.optim.group_config import is_bias_or_norm
from issl_engine.optim.parameter_groups import parameter_groups

_TINY = 1e-8  # keeps a very small denominator of the trust ratio from overflowing


class LARCConfig(OptimizerConfig):
    """SGD with momentum and a trust ratio for each parameter tensor, for large batches (SwAV, DISSL)."""

    name: Literal["larc"] = "larc"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the running sum of scaled gradients that is kept at a step."""
    trust_coefficient: Annotated[float, Field(gt=0)] = 1e-3
    """Length of a step (before the learning rate) as a share of the tensor's norm."""
    clip: bool = False
    """True caps the step at the learning rate (LARC); False scales it up too (LARS, as SwAV and DISSL do)."""
    exclude_bias_and_norm_from_adaptation: bool = False
    """Give biases and norms plain SGD steps, without a trust ratio (as BYOL and Barlow Twins do)."""

    def build(self, parameters: NamedParameters, *, no_decay: set[str], lr: float) -> "LARC":
        """As parameter_groups, with the parameters of a group that have a trust ratio apart from those that have
        none."""
        groups = []
        for group in parameter_groups(parameters, no_decay=no_decay, config=self, lr=lr):
            alike: dict[bool, list[Tensor]] = {}
            for parameter in group["params"]:
                skipped = self.exclude_bias_and_norm_from_adaptation and is_bias_or_norm(parameter)
                alike.setdefault(not skipped, []).append(parameter)
            groups += [group | {"params": members, "adapt": adapt} for adapt, members in alike.items()]
        return LARC(groups, lr=lr, momentum=self.momentum, trust_coefficient=self.trust_coefficient, clip=self.clip)


class Slice(NamedTuple):
    """The part of a parameter that lies in a flat tensor: elements start to start + length; none for length 0."""

    start: int
    length: int


@dataclass
class _Tensors:
    """The tensors of one step that share device and dtype, with their groups' settings."""

    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    momenta: list[Tensor] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    momentum: list[float] = field(default_factory=list)
    weight_decay: list[float] = field(default_factory=list)
    trust_coefficient: list[float] = field(default_factory=list)
    clip: list[bool] = field(default_factory=list)
    adapt: list[bool] = field(default_factory=list)


class LARC(torch.optim.Optimizer):
    """See the file's docstring. Groups may set ``adapt`` False for a trust ratio of 1.

    ``norm_group``: when every rank of it holds a slice of each parameter, the squared norms are summed over it in one
    all-reduce per step; each rank must then have a gradient for every one. ``take_slices`` says where in a flat tensor
    the slices lie, as ZeRO 1 and 2 cut flattened groups. Without a group parameters are whole here; ``step`` raises
    Mistake when they are not.
    """

    norm_group: dist.ProcessGroup | None = None
    found_inf: Tensor | None = None
    """Where this scalar on the device is 1, ``step`` changes nothing; else 0, or None for never."""

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        clip: bool = False,
        norm_group: dist.ProcessGroup | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "clip": clip,
            "adapt": True,
        }
        super().__init__(params, defaults)
        self.norm_group = norm_group
        self._slices: dict[Tensor, Sequence[Slice]] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As every torch optimiser's; also notes how many tensors and weights the group has while they are whole."""
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        added["count"] = len(added["params"])
        added["numel"] = sum(weight.numel() for weight in added["params"])

    def take_slices(self, slices: Mapping[Tensor, Sequence[Slice]], norm_group: dist.ProcessGroup) -> None:
        """From now on each flat tensor among the groups' stands for several parameters, in the same order on every rank
        of ``norm_group``: ``slices`` says where this rank's part of each lies. What lies between them is padding."""
        self._slices, self.norm_group = dict(slices), norm_group

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_whole()
        for tensors in self._by_device_and_dtype():
            self._update(tensors)
        return loss

    def _check_whole(self) -> None:
        for group in self.param_groups:
            here = sum(weight.numel() for weight in group["params"])
            count = sum(len(self._slices.get(weight, (None,))) for weight in group["params"])
            if count != group["count"] or (self.norm_group is None and here < group["numel"]):
                raise Mistake(
                    f"LARC needs the norms of whole parameters, but this rank holds {here} of the {group['numel']} "
                    f"weights of a group, as {count} of {group['count']} tensors; set deepspeed.zero_stage to 0"
                )

    def _by_device_and_dtype(self) -> Iterator[_Tensors]:
        found: dict[tuple[torch.device, torch.dtype], _Tensors] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                tensors = found.setdefault((weight.device, weight.dtype), _Tensors())
                slices = self._slices.get(weight)
                tensors.weights += _parts(weight, slices)
                tensors.gradients += _parts(weight.grad, slices)
                tensors.momenta += _parts(state["momentum_buffer"], slices)
                for key in ("lr", "momentum", "weight_decay", "trust_coefficient", "clip", "adapt"):
                    getattr(tensors, key).extend([group[key]] * (1 if slices is None else len(slices)))
        yield from found.values()

    def _update(self, tensors: _Tensors) -> None:
        # Scalars go in as lists, one number per entry: groups that differ in them still share each foreach call.
        decayed = torch._foreach_mul(tensors.weights, tensors.weight_decay)
        torch._foreach_add_(decayed, tensors.gradients)
        ratios = self._trust_ratios(tensors)
        torch._foreach_mul_(decayed, list(ratios.to(tensors.weights[0].dtype).unbind()))
        by_setting: dict[tuple[float, float], list[int]] = {}
        for index, setting in enumerate(zip(tensors.lr, tensors.momentum, strict=True)):
            by_setting.setdefault(setting, []).append(index)
        for (lr, momentum), chosen in by_setting.items():
            # Beside saving passes over the weights, this kernel leaves all as it is where found_inf is 1.
            torch._fused_sgd_(
                [tensors.weights[i] for i in chosen], [decayed[i] for i in chosen],
                [tensors.momenta[i] for i in chosen if momentum],
                weight_decay=0.0, momentum=momentum, lr=lr, dampening=0.0,
                nesterov=False, maximize=False, is_first_step=False, grad_scale=None, found_inf=self.found_inf,
            )  # fmt: skip

    def _trust_ratios(self, tensors: _Tensors) -> Tensor:
        """One ratio per tensor, on its device, without waiting for it."""
        weight_norms, gradient_norms = self._norms(tensors.weights + tensors.gradients).chunk(2)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=weight_norms.dtype).to(weight_norms.device, non_blocking=True)

        trust, decay, lr = column(tensors.trust_coefficient), column(tensors.weight_decay), column(tensors.lr)
        ratios = trust * weight_norms / (gradient_norms + decay * weight_norms + _TINY)
        clip, adapt = column(tensors.clip).bool(), column(tensors.adapt).bool()
        ratios = torch.where(clip, (ratios / lr).clamp(max=1), ratios)
        return torch.where(adapt & (weight_norms > 0) & (gradient_norms > 0), ratios, 1.0)

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        norms = torch.stack(torch._foreach_norm(tensors))
        norms = norms if norms.dtype == torch.float64 else norms.float()
        if self.norm_group is None:
            return norms
        squares = norms.square()
        dist.all_reduce(squares, group=self.norm_group)
        return squares.sqrt()


def _parts(flat: Tensor, slices: Sequence[Slice] | None) -> list[Tensor]:
    """Views of the slices, or the tensor itself where there are none."""
    return [flat] if slices is None else [flat.narrow(0, start, length) for start, length in slices]
