"""Contrasts over ranks, targets gathered or in a ring: what one process with all rows gives; the ring's memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from issl_engine.ranks import Ranks
from issl_kernels import info_nce, info_nce_with_terms, kernel_path, sigmoid_contrastive
from issl_profiling.kernels.allocated_memory import AllocationTracker

V, G, B, D = 3, 2, 3, 4
SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"keep_self": False},
    "cissl": {"keep_self": True},
    "supcon": {"keep_self": False},
    "sigmoid": {"keep_self": False},
}

INTERPRETED = ("simclr", "sigmoid")


def images(world_size: int) -> Tensor:
    return torch.randn(V, B * world_size, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def labels(world_size: int) -> Tensor:
    return torch.arange(B * world_size) % 4


def parts() -> tuple[nn.Module, nn.Module, Tensor]:
    """Encoder, target head and temperature, the same on every rank."""
    torch.manual_seed(2)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    return nn.Linear(6, D).double(), nn.Linear(6, D).double(), temperature


def everything(name: str, x: Tensor, y: Tensor, exchange: Any, group: Any) -> dict[str, Tensor]:
    """Loss, terms and gradients: of rows, of weights, of the temperature."""
    encoder, head, temperature = parts()
    anchors, targets = encoder(x), head(x[:G])
    anchors.retain_grad()
    targets.retain_grad()
    settings = {"labels_B": y if name == "supcon" else None, "exchange": exchange, "group": group} | SETTINGS[name]
    if name == "sigmoid":
        loss = sigmoid_contrastive(anchors, targets, scale=1 / temperature, bias=temperature - 1, **settings)
        terms: tuple[Tensor, ...] = (loss.detach(),)
    else:
        loss, terms = info_nce_with_terms(anchors, targets, temperature=temperature, **settings)
    loss.backward()
    found = {"loss": loss.detach(), "terms": torch.stack(tuple(terms)), "temperature": temperature.grad}
    found |= {"anchors": anchors.grad, "targets": targets.grad}
    found |= {f"encoder.{key}": p.grad for key, p in encoder.named_parameters()}
    found |= {f"head.{key}": p.grad for key, p in head.named_parameters()}
    return {key: value for key, value in found.items() if value is not None}


def peak(exchange: Any, group: Any) -> int:
    """Bytes at most alive during a step, beyond its inputs."""
    anchors, targets = (torch.randn(2, 64, 256, requires_grad=True) for _ in range(2))
    with AllocationTracker() as tracker:
        info_nce(anchors, targets, temperature=0.1, keep_self=True, exchange=exchange, group=group).backward()
    return tracker.peak


def peaks(rank: int) -> dict[tuple[str, int], int]:
    """(exchange, number of ranks) → peak."""
    three = dist.new_group([1, 2, 3])
    found = {(exchange, 4): peak(exchange, dist.group.WORLD) for exchange in ("gather", "ring")}
    if rank > 0:
        found |= {(exchange, 3): peak(exchange, three) for exchange in ("gather", "ring")}
    return found


def found_on_rank(ranks: Ranks) -> dict[str, Any]:
    rank, world_size, group = ranks.rank, ranks.world_size, ranks.group
    mine = slice(rank * B, rank * B + B)
    found: dict[str, Any] = {}
    for exchange in ("gather", "ring"):
        for name in SETTINGS:
            x, y = images(world_size)[:, mine], labels(world_size)[mine]
            found[f"{exchange} {name} chunked"] = everything(name, x, y, exchange, group)
        with kernel_path("triton"):
            for name in INTERPRETED:
                found[f"{exchange} {name} triton"] = everything(name, images(world_size)[:, mine], y, exchange, group)
    if world_size == 4:
        found["peaks"] = peaks(rank)
    uneven = torch.randn(2, 3 + rank, D)
    try:
        info_nce(uneven, uneven, temperature=0.1, keep_self=True, group=group)
    except ValueError as error:
        found["uneven"] = str(error)
    return found


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, run_ranks: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return run_ranks(found_on_rank, world_size=request.param)


@pytest.mark.parametrize("path", ["chunked", "triton"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("exchange", ["gather", "ring"])
def test_ranks_give_what_one_process_gives(ranks: list[dict[str, Any]], exchange: str, name: str, path: str) -> None:
    if path == "triton" and name not in INTERPRETED:
        pytest.skip("the interpreter is slow: one loss of each kind is enough for the exchange")
    size = len(ranks)
    expected = everything(name, images(size), labels(size), "gather", None)
    found = [rank[f"{exchange} {name} {path}"] for rank in ranks]
    for key, value in expected.items():
        if key in ("loss", "terms"):
            assert all(torch.allclose(rank[key], value, rtol=1e-9) for rank in found), key
        elif key in ("anchors", "targets"):
            together = torch.cat([rank[key] / size for rank in found], dim=1)
            assert torch.allclose(together, value, rtol=1e-8, atol=1e-12), key
        else:  # parameters, whose gradients the engine averages over ranks
            mean = torch.stack([rank[key] for rank in found]).mean(0)
            assert torch.allclose(mean, value, rtol=1e-8, atol=1e-12), key


def test_a_smaller_batch_on_one_rank_is_refused_on_all(ranks: list[dict[str, Any]]) -> None:
    size = len(ranks)
    for index, rank in enumerate(ranks):
        assert f"anchors_VBD has {3 + index} images on this rank" in rank["uneven"]
        assert f"ranks have from 3 to {2 + size}: every rank must bring as many" in rank["uneven"]


def test_the_rings_memory_does_not_grow_with_the_ranks(ranks: list[dict[str, Any]]) -> None:
    """64 images per rank, on the last three of four ranks and on all four. (Two ranks take less: when the second block
    is used, none is on its way.)"""
    if len(ranks) == 2:
        pytest.skip("three ranks are compared with four")
    for rank in ranks[1:]:
        of = rank["peaks"]
        assert of["ring", 4] == of["ring", 3]
        assert of["gather", 4] >= 1.2 * of["gather", 3]
        assert of["ring", 4] < of["gather", 4]
