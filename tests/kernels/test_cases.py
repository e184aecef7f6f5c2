"""Case lists: what they promise of sizes and work."""

from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from issl_kernels import cross_correlation, distillation, info_nce, sinkhorn, soft_cross_entropy
from issl_kernels.case import Case
from issl_kernels.cross_correlation import cases as correlation_cases
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.info_nce import cases as nce_cases
from issl_kernels.linear_distillation import cases as linear_distillation_cases
from issl_kernels.linear_soft_cross_entropy import cases as linear_soft_cases
from issl_kernels.sigmoid_contrastive import cases as sigmoid_cases
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.soft_cross_entropy import cases as soft_cases

MODULES = [
    correlation_cases,
    distillation_cases,
    linear_distillation_cases,
    linear_soft_cases,
    nce_cases,
    sigmoid_cases,
    sinkhorn_cases,
    soft_cases,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split(".")[1])
def test_names_are_unique_and_inputs_repeat(module: ModuleType) -> None:
    cases: tuple[Case, ...] = (*module.TEST_CASES, *module.BENCH_CASES, *module.CPU_BENCH_CASES)
    assert len({case.name for case in cases}) == len(cases)
    for case in module.TEST_CASES:
        first, again, other = case.inputs(torch.float32), case.inputs(torch.float32), case.inputs(torch.float32, seed=7)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        assert case.inputs(torch.bfloat16)[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("case", "forward_flops", "backward_flops"),
    [
        (nce_cases.BENCH_CASES[0], 17e9, 52e9),
        (nce_cases.BENCH_CASES[2], 4.4e12, 13.2e12),
        (correlation_cases.BENCH_CASES[0], 0.55e12, 1.1e12),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_flops_of_the_products(case: Case, forward_flops: float, backward_flops: float) -> None:
    assert case.forward_work(2).flops == pytest.approx(forward_flops, rel=0.03)
    assert case.backward_work(2).flops == pytest.approx(backward_flops, rel=0.03)


@pytest.mark.parametrize(
    ("case", "total_bytes"),
    [
        (distillation_cases.BENCH_CASES[0], 4 * 336e6),
        (soft_cases.BENCH_CASES[0], 4.5e9),
        (sinkhorn_cases.BENCH_CASES[0], 4 * 49e6 + 98e6),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_bytes_of_the_passes(case: Case, total_bytes: float) -> None:
    assert case.forward_work(2).bytes + case.backward_work(2).bytes == pytest.approx(total_bytes, rel=0.03)


def test_a_product_counts_what_torch_counts() -> None:
    for case, operation in ((nce_cases.TEST_CASES[4], info_nce), (correlation_cases.TEST_CASES[0], cross_correlation)):
        with FlopCounterMode(display=False) as counter:
            case.call(operation, *case.inputs(torch.float32))
        assert counter.get_total_flops() == case.forward_work(4).flops


@pytest.mark.parametrize(
    ("case", "operation"),
    [
        (distillation_cases.TEST_CASES[0], distillation),
        (soft_cases.TEST_CASES[0], soft_cross_entropy),
        (sinkhorn_cases.TEST_CASES[0], sinkhorn),
    ],
)
def test_cases_call_their_operation(case: Case, operation: object) -> None:
    assert case.call(operation, *case.inputs(torch.float32)).isfinite().all()  # type: ignore[arg-type]
