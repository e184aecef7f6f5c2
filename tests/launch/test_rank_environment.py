"""A rank learns its place from whichever launcher started it, and shares the cores of its host."""

from dataclasses import replace

import pytest

from issl_engine.launch.hosts import Place
from issl_engine.launch.rank_environment import environment_of_rank, forwarded_environment, join, joined_place

PLACE = Place(rank=3, world_size=4, local_rank=1, local_world_size=2, host="b")
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "ISSL_HOST": "b"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "ISSL_HOST": "b"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "ISSL_HOST": "b"}


def test_torchrun() -> None:
    assert joined_place(TORCHRUN) == PLACE


@pytest.mark.parametrize("environment", [SLURM, MPIRUN])
def test_other_launchers(environment: dict[str, str]) -> None:
    assert joined_place(environment) == replace(PLACE, local_world_size=0)


def test_torchruns_variables_come_before_slurms() -> None:
    assert joined_place(SLURM | TORCHRUN | {"RANK": "2"}) == replace(PLACE, rank=2)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "4"},
        {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"},  # a batch script, not a task
        SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # an interactive shell in a job of many tasks
    ],
)
def test_without_a_launcher_there_is_no_place(environment: dict[str, str]) -> None:
    assert joined_place(environment) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"RANK": "4"}, "RANK is 4 and WORLD_SIZE is 4: ranks count from 0 to 3"),
        ({"RANK": "x"}, "RANK is 'x' in the environment; it must be a whole number"),
    ],
)
def test_variables_that_cannot_be(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        joined_place(TORCHRUN | change)


def test_a_task_of_slurm_speaks_as_a_rank_of_torchrun() -> None:
    environment = SLURM | {"MASTER_ADDR": "a", "MASTER_PORT": "1234"}
    join(PLACE, environment)
    assert {name: environment[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")} == {
        "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4",
    }  # fmt: skip


def test_a_rank_that_does_not_know_where_to_meet() -> None:
    with pytest.raises(ValueError, match=r"rank 3 of 4 .* set MASTER_PORT to") as caught:
        join(PLACE, {"MASTER_ADDR": "a"})
    assert "issl-engine slurm" in str(caught.value)


@pytest.mark.parametrize(("num_cores", "threads"), [(16, "8"), (3, "1"), (1, "1")])
def test_ranks_of_a_host_share_its_cores(num_cores: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = environment_of_rank(PLACE, master_address="a", master_port=1234, num_cores=num_cores)
    assert made["OMP_NUM_THREADS"] == threads
    assert joined_place(made) == PLACE
    assert (made["MASTER_ADDR"], made["MASTER_PORT"]) == ("a", "1234")


def test_threads_that_the_user_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    made = environment_of_rank(PLACE, master_address="a", master_port=1234, num_cores=16)
    assert "OMP_NUM_THREADS" not in made


def test_settings_of_libraries_reach_other_hosts_and_nothing_else_does() -> None:
    here = {"NCCL_DEBUG": "INFO", "GLOO_SOCKET_IFNAME": "eth1", "ISSL_KERNELS": "chunked", "HOME": "/root", "RANK": "1"}
    assert set(forwarded_environment(here)) == {"NCCL_DEBUG", "GLOO_SOCKET_IFNAME", "ISSL_KERNELS"}
