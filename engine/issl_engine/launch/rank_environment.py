"""How a rank learns where it is: by environment variables, ours or those of torchrun, Slurm or mpirun."""

import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from issl_engine.launch.hosts import Place
from issl_engine.rank_variables import check_meeting_place, check_rank, whole_number

FAILURE_PIPE = "ISSL_FAILURE_PIPE"
"""File descriptor on which a rank hands its supervisor the reason of its failure."""
RANK_LOG = "ISSL_RANK_LOG"
"""File that a rank's log goes to; rank 0 writes to it beside the terminal."""
HOST = "ISSL_HOST"
"""What the hostfile calls the rank's host."""

FORWARDED = ("ISSL_", "NCCL_", "GLOO_", "OMP_", "TRITON_", "TORCH_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of the variables that ranks on other hosts inherit from the supervisor."""


@dataclass(frozen=True, kw_only=True)
class _Launcher:
    """What a launcher calls things. ``mark`` is set only in processes that it has started as ranks; of the names for
    the number of ranks the first that is set counts."""

    name: str
    rank: str
    world_size: tuple[str, ...]
    local_rank: str
    mark: str


LAUNCHERS = (
    _Launcher(name="torchrun", rank="RANK", world_size=("WORLD_SIZE",), local_rank="LOCAL_RANK", mark="RANK"),
    # A batch script has SLURM_PROCID too; only what srun started belongs to a step, such as an interactive shell of one
    # task in a job of many.
    _Launcher(
        name="srun",
        rank="SLURM_PROCID",
        world_size=("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        local_rank="SLURM_LOCALID",
        mark="SLURM_STEP_ID",
    ),
    _Launcher(
        name="mpirun",
        rank="OMPI_COMM_WORLD_RANK",
        world_size=("OMPI_COMM_WORLD_SIZE",),
        local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
        mark="OMPI_COMM_WORLD_RANK",
    ),
)


def joined_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place among the ranks that a launcher started, or None where none did.

    A lone task of Slurm or mpirun counts as none. Raises Mistake for variables that contradict each other.
    """
    for launcher in LAUNCHERS:
        size_name = next((name for name in launcher.world_size if name in environment), None)
        if size_name is None or not {launcher.mark, launcher.rank} <= environment.keys():
            continue
        rank, world_size = whole_number(launcher.rank, environment), whole_number(size_name, environment)
        if world_size == 1 and launcher.name != "torchrun":
            continue
        local_rank = whole_number(launcher.local_rank, environment) if launcher.local_rank in environment else rank
        check_rank(launcher.rank, rank, size_name, world_size)
        return Place(
            rank=rank, world_size=world_size, local_rank=local_rank,
            local_world_size=whole_number("LOCAL_WORLD_SIZE", environment) if "LOCAL_WORLD_SIZE" in environment else 0,
            host=host_name(environment),
        )  # fmt: skip
    return None


def join(place: Place, environment: MutableMapping[str, str] = os.environ) -> None:
    """Says in torchrun's variables, which DeepSpeed reads, what another launcher said in its own.

    Raises Mistake when nothing says where the ranks meet, or not as an address and a port.
    """
    environment["RANK"] = str(place.rank)
    environment["LOCAL_RANK"] = str(place.local_rank)
    environment["WORLD_SIZE"] = str(place.world_size)
    if place.world_size > 1:
        check_meeting_place(place.rank, place.world_size, environment)


def environment_of_rank(place: Place, *, master_address: str, master_port: int, num_cores: int) -> dict[str, str]:
    """The variables that make a process this rank, beside those that its supervisor has.

    Ranks of a host share its ``num_cores``; a number of threads that the user has set stays.
    """
    variables = {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "MASTER_ADDR": master_address,
        "MASTER_PORT": str(master_port),
        HOST: place.host,
    }
    if "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, num_cores // place.local_world_size))
    return variables


def forwarded_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings of libraries that ranks on other hosts must share."""
    return {name: value for name, value in environment.items() if name.startswith(FORWARDED)}


def host_name(environment: Mapping[str, str] = os.environ) -> str:
    """The hostfile's name of this host, or the machine's own."""
    return environment.get(HOST) or socket.gethostname()
