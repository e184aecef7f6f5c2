"""Everything that touches DeepSpeed: process start-up, the engine, its checkpoints. The only file that imports it.

One process needs no launcher, compiler or mpi4py: the process group is made here, over an in-process store.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise it warns that it found none

with contextlib.redirect_stdout(sys.stderr):  # it prints while it is imported; our stdout holds results only
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param

from issl_engine.optim.larc import Slice

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all. ``group`` is None for a lone process: collectives are then no-ops."""

    rank: int
    world_size: int
    device: torch.device
    group: ProcessGroup | None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank must call it."""
        if self.group is None:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.group)
        return bool(value.item())

    def barrier(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)


def start_ranks() -> Ranks:
    """Joins the process group that a launcher (torchrun, deepspeed) set up in the environment, or makes one of one.

    Safe to call again: the group is made once a process.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        if world_size == 1:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        else:
            dist.init_process_group(backend)
    _quieten(device)
    return Ranks(rank=rank, world_size=world_size, device=device, group=dist.group.WORLD if world_size > 1 else None)


def _quieten(device: torch.device) -> None:
    for key, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(key, value)
    logger = logging.getLogger("DeepSpeed")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    if device.type == "cpu":
        # DeepSpeed would compile a shared-memory all-reduce in C++ (40 s, and a compiler needed); gloo does without.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What DeepSpeed is told. ``micro_batch_size`` is images a rank and forward pass."""

    micro_batch_size: int
    accumulation_steps: int
    zero_stage: int
    precision: str
    clip_gradient_norm: float | None

    def as_config(self) -> dict[str, Any]:
        """DeepSpeed's own configuration."""
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch_size,
            "gradient_accumulation_steps": self.accumulation_steps,
            "gradient_clipping": self.clip_gradient_norm or 0.0,
            "zero_optimization": {"stage": self.zero_stage},
            "zero_allow_untested_optimizer": True,
            # bf16 weights break batch-norm; autocast keeps weights and statistics in fp32.
            "torch_autocast": {"enabled": self.precision == "bf16", "dtype": "bfloat16"},
            "steps_per_print": 10**9,
        }


class Engine:
    """A module under DeepSpeed: forward, backward, step, and its state on disk."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, settings: EngineSettings) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._engine, self.optimizer, _, _ = deepspeed.initialize(
                model=module, optimizer=optimizer, config=settings.as_config(), dist_init_required=False
            )
        self.module = module

    def __call__(self, *inputs: Any) -> Any:
        return self._engine(*inputs)

    def backward(self, loss: Tensor, *, add_up: bool = False) -> None:
        """Gradients of the mean of the losses of the accumulation steps, or of their sum with ``add_up``; averaged over
        ranks at the last step."""
        self._engine.backward(loss, scale_wrt_gas=not add_up)

    def step(self) -> None:
        """The optimiser step, if this was the last accumulation step; else nothing."""
        self._engine.step()

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

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def save(self, folder: Path) -> None:
        """Module and optimiser state of all ranks into ``folder`` (every rank calls it)."""
        with contextlib.redirect_stdout(sys.stderr):
            self._engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        """The counterpart of save, at the same world size and ZeRO stage."""
        with contextlib.redirect_stdout(sys.stderr):
            path, _ = self._engine.load_checkpoint(str(folder), tag="state")
        if path is None:
            raise ValueError(f"{folder}: DeepSpeed found no state of this world size and ZeRO stage here")

    def close(self) -> None:
        """Releases DeepSpeed's hooks and references, so that the next arm of a run starts clean."""
        self._engine.destroy()


def _slice_here(parameter: nn.Parameter) -> Slice:
    mapping = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:  # all of it lies with other ranks
        return Slice(0, 0)
    return Slice(mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel)
