"""This process among all that train together: who it is, and how it meets the others.

One process needs no launcher: its process group is made here, over a store of its own.
"""

import contextlib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from issl_engine.mistakes import Mistake
from issl_engine.rank_variables import check_meeting_place, check_rank, whole_number

T = TypeVar("T")

TIMEOUT_VARIABLE = "ISSL_RANKS_TIMEOUT_SECONDS"
DEFAULT_TIMEOUT_SECONDS = 1800.0
SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface
DISCARD_PORT = 9


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all. ``group`` is None for a lone process: collectives are then no-ops.

    ``store`` holds what ranks say to each other outside collectives; it works while one of them hangs or has failed.
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
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group, device=self.device)
        return values[0]


_store: Store | None = None


def start_ranks(*, timeout_seconds: float | None = None) -> Ranks:
    """Joins the process group that a launcher (torchrun, deepspeed) set up in the environment, or makes one of one.

    Safe to call again: the group is made once per process. ``timeout_seconds`` bounds the meeting and each collective;
    None takes the environment's ISSL_RANKS_TIMEOUT_SECONDS, or half an hour. Raises Mistake when the ranks do not
    come together, and for a wrong variable in the environment.
    """
    rank, world_size, local_rank = _own_place()
    device = _device(local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout_seconds = timeout_seconds or _timeout_from_environment()
    if not dist.is_initialized():
        _meet(rank, world_size, device, timedelta(seconds=timeout_seconds))
    if world_size == 1:
        return Ranks(rank=0, world_size=1, device=device, group=None)
    return Ranks(
        rank=rank, world_size=world_size, device=device, group=dist.group.WORLD, store=_store,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip


def _own_place() -> tuple[int, int, int]:
    """(Rank, number of ranks, rank on this host) as the environment has them, or those of a lone process."""
    rank, world_size, local_rank = (
        whole_number(name) if name in os.environ else alone
        for name, alone in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    check_rank("RANK", rank, "WORLD_SIZE", world_size)
    if world_size > 1:
        check_meeting_place(rank, world_size)
    return rank, world_size, local_rank


def _device(local_rank: int) -> torch.device:
    """The GPU with the rank's number on its host, or the only one that its launcher lets it see."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count()
    if num_gpus == 1:
        return torch.device("cuda", 0)  # preflight says so when ranks share it
    if local_rank >= num_gpus:
        raise Mistake(
            f"LOCAL_RANK is {local_rank}, and this host has {num_gpus} GPUs; start one rank per GPU, or set "
            "CUDA_VISIBLE_DEVICES to nothing for ranks on the CPU"
        )
    return torch.device("cuda", local_rank)


def _meet(rank: int, world_size: int, device: torch.device, timeout: timedelta) -> None:
    global _store
    backend = "nccl" if device.type == "cuda" else "gloo"
    # NCCL then connects at once, so that what is wrong is known before training, and to the right GPU.
    device_id = device if device.type == "cuda" else None
    if world_size == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=device_id)
        return
    interface = interface_towards_first_rank()
    if backend == "gloo" and interface is not None:
        # Left alone, gloo takes the address of the host's name, which on many machines is the loopback address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=timeout))
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
        raise Mistake(f"{TIMEOUT_VARIABLE} is '{text}' in the environment; it must be a number of seconds above 0")
    return seconds


class RanksDidNotMeet(Mistake):
    """One sentence that says where and how long this rank waited; another rank's failure may be the reason."""


def interface_towards_first_rank() -> str | None:
    """The network interface on which this rank reaches rank 0's host, or None where it is not known."""
    return interface_towards(os.environ.get("MASTER_ADDR", ""))


def _own_address_towards(host: str) -> str:
    """The IPv4 address from which this machine reaches another host. Raises OSError where no route leads there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, DISCARD_PORT))  # only looks the route up: a datagram socket sends nothing here
        return str(probe.getsockname()[0])


def interface_towards(host: str) -> str | None:
    """The network interface that leads to a host, or that holds its address where it is this machine.

    None where it is not known (IPv6, or an address that no interface has as its first).
    """
    with contextlib.suppress(OSError):
        wanted = _own_address_towards(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # an interface without an IPv4 address
                    request = struct.pack("256s", name.encode()[:15])
                    answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
                    if socket.inet_ntoa(answer[20:24]) == wanted:
                        return name
    return None


def failed_meeting(reason: str, world_size: int, timeout: timedelta) -> Mistake:
    """What torch says when its store cannot be made, for the user."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    if "EADDRINUSE" in reason or "address already in use" in reason.lower():
        return Mistake(
            f"MASTER_PORT {os.environ.get('MASTER_PORT')} is taken by another process on rank 0's host; set it to a "
            "free port"
        )
    return RanksDidNotMeet(
        f"the {world_size} ranks did not meet at {place} (MASTER_ADDR, MASTER_PORT) within "
        f"{timeout.total_seconds():g} s ({reason.partition(chr(10))[0][:300]}); check that all of them were started "
        "and that no firewall is in between"
    )
