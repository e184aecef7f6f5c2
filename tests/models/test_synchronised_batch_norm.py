"""Batch-norm over ranks equals torch's on the joined batch: outputs, gradients, running statistics, in fp64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from issl_engine.models.synchronised_batch_norm import SynchronisedBatchNorm, synchronise_batch_norm
from issl_engine.ranks import Ranks

ROWS = (3, 5)  # a rank: they need not be alike
C = 4

CASES: dict[str, dict[str, Any]] = {
    "1d": {"shape": ()},
    "2d": {"shape": (3, 2)},
    "without affine": {"shape": (), "affine": False},
    "mean of all batches": {"shape": (2, 2), "momentum": None},
    "no running statistics": {"shape": (), "track_running_stats": False},
    "no running statistics, eval": {"shape": (), "track_running_stats": False, "train": False},
    "large mean": {"shape": (2, 2), "offset": 1e6},
    "fp32": {"shape": (2, 2), "dtype": torch.float32},
    "fp32, large mean": {"shape": (2, 2), "dtype": torch.float32, "offset": 1e3},
    "bf16": {"shape": (2, 2), "dtype": torch.bfloat16},
    "frozen": {"shape": (2, 2), "train": False},
    "a rank without rows": {"shape": (), "rows": (0, 6)},
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}


def batches(case: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Two batches of all ranks, and gradients of their outputs."""
    generator = torch.Generator().manual_seed(7)
    shape = (sum(case.get("rows", ROWS)), C, *case["shape"])
    scale = torch.tensor([0.5, 1.0, 3.0, 10.0], dtype=torch.float64).view(1, C, *(1,) * len(case["shape"]))
    drawn = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(4)]
    dtype = case.get("dtype", torch.float64)
    return [(x * scale + 2 + case.get("offset", 0)).to(dtype) for x in drawn[:2]], [g.to(dtype) for g in drawn[2:]]


def norm_for(case: dict[str, Any]) -> nn.Module:
    settings = {key: case[key] for key in ("affine", "momentum", "track_running_stats") if key in case}
    norm = (nn.BatchNorm2d if case["shape"] else nn.BatchNorm1d)(C, **settings)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.5]))
            norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.3]))
    return (norm.double() if case.get("dtype", torch.float64) == torch.float64 else norm).train(case.get("train", True))


def outputs(norm: nn.Module, xs: list[Tensor], gs: list[Tensor]) -> dict[str, Tensor]:
    """Of two batches, one after the other; parameters' gradients add up over both."""
    result = {}
    for step, (x, g) in enumerate(zip(xs, gs, strict=True)):
        x = x.clone().requires_grad_()
        y = norm(x)
        y.backward(g)
        result |= {f"{step} y": y.detach(), f"{step} gradient of x": x.grad}
    result |= {f"gradient of {name}": parameter.grad for name, parameter in norm.named_parameters()}
    return result | {name: buffer.clone() for name, buffer in norm.named_buffers()}


def outputs_of_rank(ranks: Ranks) -> dict[str, dict[str, Tensor]]:
    """Of each case, with this rank's rows."""
    results = {}
    for name, case in CASES.items():
        first, second = case.get("rows", ROWS)
        mine = slice(0, first) if ranks.is_first else slice(first, first + second)
        xs, gs = batches(case)
        norm = synchronise_batch_norm(norm_for(case), ranks.group)
        results[name] = outputs(norm, [x[mine] for x in xs], [g[mine] for g in gs])
    return results


@pytest.fixture(scope="module")
def ranks(run_ranks: Callable[..., list[Any]]) -> list[dict[str, dict[str, Tensor]]]:
    return run_ranks(outputs_of_rank)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_give_what_torch_gives_for_the_joined_batch(
    name: str, ranks: list[dict[str, dict[str, Tensor]]]
) -> None:
    case = CASES[name]
    expected = outputs(norm_for(case), *batches(case))
    first, second = (of_rank[name] for of_rank in ranks)
    assert first.keys() == expected.keys()
    for key, value in expected.items():
        if key[0].isdigit():
            actual = torch.cat((first[key], second[key]))
        elif key.startswith("gradient"):
            actual = first[key] + second[key]
        else:
            assert torch.equal(first[key], second[key]), key
            actual = first[key]
        assert actual.dtype == value.dtype
        # A mean of 1e6 with a spread of 0.5 takes 6 of fp64's 16 digits from either implementation, 1e3 4 of fp32's 7.
        tolerance = TOLERANCE[case.get("dtype", torch.float64)] * (1 + 0.01 * case.get("offset", 0)) ** 0.5
        scale = max(1.0, value.abs().max().item())
        assert (actual.double() - value.double()).abs().max().item() <= tolerance * scale, key


@pytest.fixture
def lone_group(tmp_path: Path) -> Any:
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return dist.group.WORLD


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_gradients_equal_finite_differences(affine: bool, shape: tuple[int, ...], lone_group: Any) -> None:
    norm = SynchronisedBatchNorm(C, affine=affine, group=lone_group).double()
    x = torch.randn(5, C, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(("weight", "bias"), weights, strict=False)), (x,))

    weights = [torch.rand(C, dtype=torch.float64).add(0.5).requires_grad_() for _ in range(2 * affine)]
    assert torch.autograd.gradcheck(run, (x, *weights))


def test_a_converted_module_keeps_names_parameters_and_values(lone_group: Any) -> None:
    module = nn.Sequential(nn.Conv2d(3, C, 1), nn.Sequential(nn.BatchNorm2d(C, eps=1e-3, momentum=0.2)), nn.ReLU())
    module(torch.randn(6, 3, 4, 4))
    before, parameters = {k: v.clone() for k, v in module.state_dict().items()}, list(module.parameters())
    converted = synchronise_batch_norm(module, lone_group)
    after = converted.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(a is b for a, b in zip(converted.parameters(), parameters, strict=True))
    norm = converted[1][0]
    assert isinstance(norm, SynchronisedBatchNorm)
    assert (norm.eps, norm.momentum) == (1e-3, 0.2)


def test_an_input_of_other_channels_is_named() -> None:
    with pytest.raises(ValueError, match=r"4 channels takes \[rows, 4, ...\], not \[2, 3\]"):
        SynchronisedBatchNorm(C, group=None)(torch.zeros(2, 3))
