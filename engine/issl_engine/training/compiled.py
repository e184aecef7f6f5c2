"""torch.compile for encoder and heads, tried before training starts, and given up in one sentence where it fails.

Losses are kernels already, and what follows from the step (frozen prototypes, schedules) is decided outside, so that
nothing is compiled again from step to step. Letters: V views, B images on this rank.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from issl_engine.mistakes import Mistake
from issl_engine.models.guarded_buffers import GuardedBuffers
from issl_engine.models.heads import Head
from issl_engine.training.learner import Learner

_log = logging.getLogger("issl_engine")

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


def compile_learner(learner: Learner, crops: tuple[Tensor, ...], *, mode: CompileMode, precision: str) -> bool:
    """Compiles encoder and heads; whether that worked. Weights, statistics and random numbers stay as they were.

    ``crops``: of the shapes, types and memory order that training brings, one tensor [count, B, 3, size, size] a crop
    group; what they show does not matter. A forward and a backward pass over them compile all there is: a graph for
    each crop size. Raises Mistake for a mode that this device does not have.
    """
    device = crops[0].device
    if mode == "reduce-overhead" and device.type == "cpu":
        raise Mistake(
            "training.compile_mode reduce-overhead records CUDA graphs, which need an NVIDIA GPU; set it to default"
        )
    modules = [learner.encoder, *heads_of(learner.objective)]
    for module in modules:
        # Shapes are fixed from step to step: one graph for each size is faster than one for all.
        module.compile(mode=mode, dynamic=False)
    try:
        with _unharmed(learner), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            _pass_through(learner, crops)
    except torch.OutOfMemoryError:
        raise  # training would not fit either
    except Exception as error:  # a compiler fails in any way it likes; the log says so, and training needs none
        for module in modules:
            module._compiled_call_impl = None
        torch.compiler.reset()
        _log.warning("training.compile: compiling failed, so training goes on without it (%s)", _first_line(error))
        return False
    # Graphs write their outputs to the same memory each time, and must know when a new pass begins.
    learner.marks_passes = device.type == "cuda" and mode != "default"
    return True


def heads_of(objective: nn.Module) -> list[nn.Module]:
    """The objective's heads, each once, outermost."""
    return [module for module in objective.modules() if isinstance(module, Head)]


def _pass_through(learner: Learner, crops: tuple[Tensor, ...]) -> None:
    z_VBD = learner.encode(crops)
    _backward(z_VBD, learner.encoder)
    for head in heads_of(learner.objective):
        first = next(layer for layer in head.modules() if isinstance(layer, nn.Linear))
        rows = torch.randn(*z_VBD.shape[:2], first.in_features, device=z_VBD.device, dtype=z_VBD.dtype)
        _backward(head(rows.requires_grad_()), head)


def _backward(output: Tensor, module: nn.Module) -> None:
    """Makes gradients and drops them: written to the weights, they would set off what DeepSpeed does with them."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    torch.autograd.grad(output.float().square().mean(), weights, allow_unused=True)


@contextmanager
def _unharmed(learner: Learner) -> Iterator[None]:
    """Puts back what a forward pass moves: buffers and random numbers."""
    buffers = GuardedBuffers(learner.buffers())
    buffers.save()
    was_training = learner.training
    learner.train()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            learner.train(was_training)
            buffers.restore_where(torch.ones((), device=next(learner.parameters()).device))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
