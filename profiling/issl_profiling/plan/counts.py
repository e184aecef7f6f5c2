"""What one arm's model takes, counted and not guessed: weights, operations, saved activations, batch-norm's messages.

The encoder runs forward and backward on the meta device, where tensors have shapes and no memory, at the recipe's crop
sizes. Heads and loss run on the CPU with 4 and with 8 images: what grows linearly and what grows with the square (each
image against all images) follows from the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from issl_engine.mistakes import Mistake, mistakes_from
from issl_engine.models.encoders.base import Encoder
from issl_engine.objectives.base import Objective, ObjectiveShape, Progress
from issl_engine.recipe.schema import Recipe
from issl_engine.training.learner import encode_views
from issl_kernels.path import check_path_runs_on

FEW = 4
"""Images of the first count; the second has twice as many."""
BYTES_OF_FP32 = 4
START = Progress(step=0, steps_per_epoch=1000, total_steps=1000)


class SavedBytes:
    """Bytes of the tensors that autograd keeps for the backward pass, each memory once; weights do not count."""

    def __init__(self, module: nn.Module) -> None:
        self._known = {_identity(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self._kept: list[Tensor] = []
        self.total = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor):
            yield

    def _note(self, tensor: Tensor) -> Tensor:
        if _identity(tensor) not in self._known:
            self._known.add(_identity(tensor))
            self._kept.append(tensor)  # so that its memory is not given to another one
            self.total += tensor.untyped_storage().nbytes()
        return tensor


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that the host gives to the device; views, which launch nothing, not among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.total += not func.is_view
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of one arm. Parameters are numbers of weights; activations are bytes in fp32."""

    feature_dim: int
    """Width of a representation."""
    encoder_parameters: int
    objective_parameters: int
    teacher_parameters: int
    trained_tensors: int
    """Parameters with a gradient, of encoder and objective."""
    encoder_flops_per_image: float
    """Forward and backward; the EMA teacher's forward pass included."""
    objective_flops_per_image: float
    objective_flops_per_pair: float
    """Of one image of this rank with one of all."""
    encoder_saved_bytes_per_image: float
    objective_saved_bytes_per_image: float
    logits_bytes_per_image: float
    """Of those, the largest single tensor that autograd keeps of heads and loss."""
    encoder_operations: int
    """That a forward and backward pass launches, whatever the batch."""
    batch_norm_channels: tuple[int, ...]
    """One entry per batch-norm call of a forward pass."""
    teacher_batch_norm_channels: tuple[int, ...]
    """The EMA teacher's, which has no backward pass."""

    @property
    def trained_parameters(self) -> int:
        return self.encoder_parameters + self.objective_parameters


def count(recipe: Recipe) -> Counts:
    """Counts one arm.

    Raises Mistake where its objective cannot be built, its step is not in the model, or ISSL_KERNELS names a path that
    cannot run on the CPU.
    """
    with mistakes_from(ValueError):  # the kernels' own
        check_path_runs_on(torch.device("cpu"))
    if recipe.training.exact_accumulation:
        raise Mistake(
            "training.exact_accumulation embeds each image twice, which the plan does not count; set it to false"
        )
    if recipe.regularizers:
        names = ", ".join(one.name for one in recipe.regularizers)
        raise Mistake(f"regularizers ({names}) are not counted by the plan; leave them out with regularizers=[]")
    views = recipe.views
    with torch.device("meta"):
        encoder = recipe.encoder.build(image_size=views.largest_size)
    shape = ObjectiveShape(
        feature_dim=encoder.dim, num_views=views.num_views, num_global_views=views.num_global_views,
        batch_size=recipe.training.global_batch_size,
    )  # fmt: skip
    objective = recipe.objective.build(shape, None)
    small, large = (_count_objective(objective, shape, FEW * times) for times in (1, 2))
    per_pair = (large.flops - 2 * small.flops) / (2 * FEW**2)
    channels: list[int] = []
    _note_batch_norm(encoder, channels)
    flops, saved, operations = _count_encoder(encoder, recipe)
    own_channels, teacher = tuple(channels), 0
    if objective.uses_ema_teacher:
        teacher = _number(encoder) + _number(objective.projector)
        flops += _teacher_flops(encoder, recipe)
    return Counts(
        feature_dim=encoder.dim, encoder_parameters=_number(encoder), objective_parameters=_number(objective),
        teacher_parameters=teacher, trained_tensors=_number_of_tensors(encoder) + _number_of_tensors(objective),
        encoder_flops_per_image=flops, objective_flops_per_image=small.flops / FEW - FEW * per_pair,
        objective_flops_per_pair=per_pair, encoder_saved_bytes_per_image=saved,
        objective_saved_bytes_per_image=(large.saved - small.saved) / FEW,
        encoder_operations=operations, logits_bytes_per_image=(large.largest - small.largest) / FEW,
        batch_norm_channels=(*own_channels, *small.batch_norm_channels),
        teacher_batch_norm_channels=(*channels[len(own_channels) :], *small.teacher_batch_norm_channels),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _ObjectiveCount:
    flops: int
    saved: int
    largest: int
    batch_norm_channels: tuple[int, ...]
    teacher_batch_norm_channels: tuple[int, ...]


def _count_objective(objective: Objective, shape: ObjectiveShape, images: int) -> _ObjectiveCount:
    z_VBD = torch.randn(shape.num_views, images, shape.feature_dim, requires_grad=True)
    channels: list[int] = []
    hooks = _note_batch_norm(objective, channels)
    teacher = None
    if objective.uses_ema_teacher:
        with torch.no_grad():
            teacher = objective.projector(z_VBD[: shape.num_global_views])
    of_teacher = len(channels)
    saved = SavedBytes(objective)
    with FlopCounterMode(display=False) as counter:
        with saved.counting():
            loss = objective(z_VBD, teacher, START).loss
        loss.backward()
    objective.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    largest = max((tensor.untyped_storage().nbytes() for tensor in saved._kept), default=0)
    return _ObjectiveCount(
        flops=counter.get_total_flops(), saved=saved.total, largest=largest,
        batch_norm_channels=tuple(channels[of_teacher:]), teacher_batch_norm_channels=tuple(channels[:of_teacher]),
    )  # fmt: skip


def _count_encoder(encoder: Encoder, recipe: Recipe) -> tuple[float, float, int]:
    """(floating-point operations, bytes saved) per image and (operations launched), without memory."""
    crops = meta_crops(recipe, FEW)
    saved = SavedBytes(encoder)
    with Operations() as operations, FlopCounterMode(display=False) as counter:
        with saved.counting():
            z_VBD = encode_views(encoder, crops)
        z_VBD.backward(torch.empty_like(z_VBD))  # type: ignore[no-untyped-call]
    return counter.get_total_flops() / FEW, saved.total / FEW, operations.total


def _teacher_flops(encoder: Encoder, recipe: Recipe) -> float:
    first = meta_crops(recipe, FEW)[0]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(first.flatten(0, 1))
    return int(counter.get_total_flops()) / FEW * recipe.views.num_global_views / len(first)


def meta_crops(recipe: Recipe, images: int) -> tuple[Tensor, ...]:
    """Crops [count, B, 3, size, size] per group, without memory."""
    return tuple(
        torch.empty(group.count, images, 3, group.size, group.size, device="meta") for group in recipe.views.groups
    )


def _note_batch_norm(module: nn.Module, channels: list[int]) -> list[torch.utils.hooks.RemovableHandle]:
    norms = [inner for inner in module.modules() if isinstance(inner, _BatchNorm)]
    return [norm.register_forward_hook(lambda inner, *_: channels.append(inner.num_features)) for norm in norms]


def _number_of_tensors(module: nn.Module) -> int:
    return sum(parameter.requires_grad for parameter in module.parameters())


def _number(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
