"""The engine: a module, its optimiser and guard under DeepSpeed. The only file that imports it."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from issl_engine.mistakes import Mistake
from issl_engine.optim.larc import Slice
from issl_engine.optim.rates import Rates
from issl_engine.training.guard import StepGuard


def _choose_accelerator() -> None:
    """DeepSpeed takes what the variable names when it is imported, and must work where the ranks do. Raises Mistake."""
    ours = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = os.environ.get("DS_ACCELERATOR", ours)
    if chosen != ours:
        raise Mistake(f"DS_ACCELERATOR is '{chosen}' in the environment, and training runs on {ours} here; unset it")
    if ours == "cpu":
        os.environ["DS_ACCELERATOR"] = ours  # otherwise it warns that it found none


_choose_accelerator()

with contextlib.redirect_stdout(sys.stderr):  # it prints while it is imported; our stdout holds results only
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param

_log = logging.getLogger("issl_engine")


def _quieten() -> None:
    """DeepSpeed writes to stderr alone, and compiles nothing for a CPU. Before its first engine is made."""
    for key, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(key, value)
    logger = logging.getLogger("DeepSpeed")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    if not torch.cuda.is_available():
        # DeepSpeed would compile a shared-memory all-reduce in C++ (40 s, and a compiler needed); gloo does without.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What DeepSpeed is configured with. ``micro_batch_size`` is images per rank and forward pass."""

    micro_batch_size: int
    accumulation_steps: int
    zero_stage: int
    precision: str

    def as_config(self) -> dict[str, Any]:
        """DeepSpeed's own configuration."""
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch_size,
            "gradient_accumulation_steps": self.accumulation_steps,
            "gradient_clipping": 0.0,  # the guard clips: DeepSpeed would read the norm here, and wait for the device
            "zero_optimization": self._zero(),
            "zero_allow_untested_optimizer": True,
            # bf16 weights break batch-norm; autocast keeps weights and statistics in fp32.
            "torch_autocast": {"enabled": self.precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 10**9,
            # It would wait for the device at every forward pass and every step, to time them.
            "timers": {"throughput": {"enabled": False}},
        }

    def _zero(self) -> dict[str, Any]:
        if self.zero_stage == 0:
            return {"stage": 0}
        # overlap_comm waits for the device at every bucket, and a norm of its own would be read here at every step.
        return {"stage": self.zero_stage, "overlap_comm": False, "compute_grad_norm": False}


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A piece of a parameter whose optimiser state this rank holds.

    ``length`` weights from ``start`` on in the flattened parameter; in ``owner``, the tensor that the optimiser knows
    (the parameter itself, or under ZeRO a flat partition of a parameter group), they lie from ``offset`` on.
    """

    name: str
    parameter: nn.Parameter
    start: int
    length: int
    owner: Tensor
    offset: int

    @classmethod
    def whole(cls, name: str, weight: nn.Parameter) -> "Fragment":
        """A parameter that the optimiser knows as it is."""
        return cls(name=name, parameter=weight, start=0, length=weight.numel(), owner=weight, offset=0)

    @classmethod
    def mapped(cls, name: str, weight: nn.Parameter, owner: Tensor) -> "Fragment":
        """What of a parameter lies in this rank's flat partition, as ZeRO has noted at the parameter."""
        inside, flat = weight._hp_mapping.lp_fragment_address, weight._hp_mapping.hp_fragment_address  # type: ignore[attr-defined]
        return cls(name=name, parameter=weight, start=inside.start, length=inside.numel, owner=owner, offset=flat.start)


class Engine:
    """A module under DeepSpeed: forward, backward, step, and what a checkpoint needs of its optimiser."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, settings: EngineSettings, guard: StepGuard
    ) -> None:
        _quieten()
        with contextlib.redirect_stdout(sys.stderr):
            self._engine, self.optimizer, _, _ = deepspeed.initialize(
                model=module, optimizer=optimizer, config=settings.as_config(), dist_init_required=False
            )
        self.module = module
        self.guard = guard
        self.torch_optimizer = optimizer
        """The optimiser whose state a checkpoint holds; under ZeRO its parameters are this rank's flat partitions."""
        self.zero_stage = settings.zero_stage

    def __call__(self, *inputs: Any) -> Any:
        return self._engine(*inputs)

    def backward(self, loss: Tensor, *, add_up: bool = False) -> None:
        """Gradients of the mean of the losses of the accumulation steps, or of their sum with ``add_up``; averaged over
        ranks at the last step."""
        self._engine.backward(loss, scale_wrt_gas=not add_up)

    def step(self) -> None:
        """The optimiser step, if this was the last accumulation step; else nothing."""
        self._engine.step()

    @property
    def gradients_are_whole(self) -> bool:
        """Whether every rank holds all gradients; with ZeRO 1 and 2 it holds slices."""
        return self.zero_stage == 0

    def gradients(self) -> list[Tensor]:
        """After the last backward pass of a step, averaged over ranks: those of all parameters, or with ZeRO 1 and 2
        the slices that this rank holds. Written in place, they are what the optimiser sees."""
        if self.gradients_are_whole:
            return [weight.grad for weight in self.module.parameters() if weight.grad is not None]
        return [part for group in self.optimizer.averaged_gradients.values() if group is not None for part in group]

    def leave_out_step_where(self, flag: Tensor) -> None:
        """The next optimiser step changes nothing if ``flag`` is 1 (scalar, float, on the device; 0 otherwise)."""
        # What torch's fused optimisers read on the device; OptimizerConfig.build promises that ours do.
        self.torch_optimizer.found_inf = flag  # type: ignore[attr-defined]

    def slices(self) -> dict[Tensor, list[Slice]]:
        """Where this rank's part of each parameter lies in the flat tensor that ZeRO 1 and 2 made of an optimiser's
        group, in the group's order and the same number on every rank; empty without ZeRO."""
        found: dict[Tensor, list[Slice]] = {}
        if self._engine.zero_optimization():
            zero = self.optimizer
            for flat, parameters in zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True):
                found[flat] = [_slice_here(parameter) for parameter in parameters]
        return found

    def take_over(self, weights: Iterable[nn.Parameter]) -> None:
        """Weights that were written between two steps, alike on every rank: ZeRO's own copies, from which the next step
        starts, follow them."""
        for weight in weights:
            safe_set_full_fp32_param(weight, weight.detach())

    def set_rates(self, rates: Rates) -> None:
        """The learning rates and weight decays of the next step."""
        rates.give(self.optimizer.param_groups)

    def fragments(self) -> list[Fragment]:
        """What this rank's optimiser holds of each trainable parameter: all of it without ZeRO."""
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        if not self.zero_stage:
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            return [Fragment.whole(names[id(weight)], weight) for weight in weights]
        pairs = zip(self.optimizer.bit16_groups, self.optimizer.single_partition_of_fp32_groups, strict=True)
        return [
            Fragment.mapped(names[id(weight)], weight, owner)
            for group, owner in pairs
            for weight in group
            if weight._hp_mapping is not None  # else all of it is on other ranks
        ]

    def take_weights_from_module(self) -> None:
        """Call it after the module's weights were written: ZeRO's copies of them follow."""
        if self.zero_stage:
            self.optimizer.refresh_fp32_params()

    def close(self) -> None:
        """Releases DeepSpeed's hooks and references, so that the next arm of a run starts clean."""
        self._engine.destroy()


def _slice_here(parameter: nn.Parameter) -> Slice:
    mapping = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:  # all of it lies with other ranks
        return Slice(0, 0)
    return Slice(mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel)
