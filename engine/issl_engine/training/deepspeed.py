"""Everything that touches DeepSpeed: process start-up, the engine. The only file that imports it.

One process needs no launcher, compiler or mpi4py: the process group is made here, over an in-process store.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup, Store

from issl_engine.training.meeting import failed_meeting, interface_towards_first_rank

if TYPE_CHECKING:
    from issl_engine.training.guard import StepGuard

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise it warns that it found none

with contextlib.redirect_stdout(sys.stderr):  # it prints while it is imported; our stdout holds results only
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param

from issl_engine.optim.larc import Slice

_log = logging.getLogger("issl_engine")

T = TypeVar("T")

TIMEOUT_VARIABLE = "ISSL_RANKS_TIMEOUT_SECONDS"
DEFAULT_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all. ``group`` is None for a lone process: collectives are then no-ops.

    ``store`` holds what ranks tell each other outside collectives; it works while one of them hangs or has failed.
    ``timeout_seconds`` bounds each collective. ``host`` is the hostfile's name of this machine, or its own.
    """

    rank: int
    world_size: int
    device: torch.device
    group: ProcessGroup | None
    store: Store | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    host: str = field(default_factory=lambda: os.environ.get("ISSL_HOST") or socket.gethostname())

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in their order; it is pickled. Every rank must call it."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: T) -> T:
        """Rank 0's value, on every rank; it is pickled. Every rank must call it."""
        if self.group is None:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0, group=self.group, device=self.device)
        return values[0]


_store: Store | None = None


def start_ranks(*, timeout_seconds: float | None = None) -> Ranks:
    """Joins the process group that a launcher (torchrun, deepspeed) set up in the environment, or makes one of one.

    Safe to call again: the group is made once a process. ``timeout_seconds`` bounds the meeting and each collective;
    None takes the environment's ISSL_RANKS_TIMEOUT_SECONDS, or half an hour. Raises ValueError when the ranks do not
    come together.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout_seconds = timeout_seconds or _timeout_from_environment()
    if not dist.is_initialized():
        _meet(rank, world_size, device, timedelta(seconds=timeout_seconds))
    _quieten(device)
    if world_size == 1:
        return Ranks(rank=0, world_size=1, device=device, group=None)
    return Ranks(
        rank=rank, world_size=world_size, device=device, group=dist.group.WORLD, store=_store,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip


def _device(local_rank: int) -> torch.device:
    """The GPU with the rank's number on its host, or the only one that its launcher lets it see."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count()
    if num_gpus == 1:
        return torch.device("cuda", 0)  # preflight tells when ranks share it
    if local_rank >= num_gpus:
        raise ValueError(
            f"LOCAL_RANK is {local_rank}, and this host has {num_gpus} GPUs; start one rank a GPU, or set "
            "CUDA_VISIBLE_DEVICES to nothing for ranks on the CPU"
        )
    return torch.device("cuda", local_rank)


def _meet(rank: int, world_size: int, device: torch.device, timeout: timedelta) -> None:
    global _store
    backend = "nccl" if device.type == "cuda" else "gloo"
    # NCCL then connects at once, so that what is wrong is known before training, and to the right GPU.
    device_id = device if device.type == "cuda" else None
    if world_size == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, device_id=device_id)
        return
    interface = interface_towards_first_rank()
    if backend == "gloo" and interface is not None:
        # Left alone, gloo takes the address of the host's name, which on many machines is the loopback address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
        _store = store
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=timeout, device_id=device_id
        )
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise failed_meeting(str(error), world_size, timeout) from error


def _timeout_from_environment() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{TIMEOUT_VARIABLE} is '{text}' in the environment; it must be a number of seconds above 0")
    return seconds


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
        self, module: nn.Module, optimizer: torch.optim.Optimizer, settings: EngineSettings, guard: "StepGuard"
    ) -> None:
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

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

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
