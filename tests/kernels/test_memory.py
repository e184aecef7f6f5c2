"""The memory-lean path never holds a large fp32 temporary, forward or backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from issl_kernels import cross_correlation, distillation, info_nce, sinkhorn, soft_cross_entropy, view_pairs
from issl_kernels.cross_correlation import chunked as correlation_module
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import chunked as nce_module
from issl_kernels.sinkhorn import chunked as sinkhorn_module

BLOCK = 4096
DISSL: dict[str, Any] = {
    "teacher_temperature": 0.5,
    "student_temperature": 0.9,
    "entropy_weight": 2.3,
    "invariance_weight": 0.8,
}


class LargeTemporaries(TorchDispatchMode):
    """Sizes, in elements, of the fp32 tensors with memory of their own that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, tuple | list) else [out]
        for tensor, described in zip(results, func._schema.returns, strict=False):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32 and described.alias_info is None:
                self.sizes.append(tensor.untyped_storage().nbytes() // 4)
        return out

    def over(self, elements: int) -> list[int]:
        assert self.sizes, "no operation was seen"
        return [size for size in self.sizes if size > elements]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nce_module, view_pairs, sinkhorn_module, correlation_module):
        monkeypatch.setattr(module, "BLOCK_ELEMENTS", BLOCK)


def bf16(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()


def test_info_nce_never_holds_rows_by_rows() -> None:
    anchors, targets = bf16(2, 256, 8), bf16(2, 256, 8)  # 512 × 512 logits; all targets in fp32 are a block
    with LargeTemporaries() as watch:
        info_nce(anchors, targets, temperature=0.1, keep_self=False).backward()
    assert watch.over(BLOCK) == []


@pytest.mark.parametrize(
    "loss",
    [
        lambda teacher, student: distillation(teacher, student, **DISSL)[0],
        lambda teacher, student: soft_cross_entropy(student, teacher.detach().softmax(-1), temperature=0.1),
    ],
    ids=["distillation", "soft_cross_entropy"],
)
def test_all_views_of_a_block_of_logits_stay_within_it(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher, student = bf16(2, 64, 128), bf16(6, 64, 128)
    with LargeTemporaries() as watch:
        loss(teacher, student).backward()
    assert watch.over(BLOCK) == []


def test_sinkhorn_makes_nothing_large_but_its_result() -> None:
    scores = bf16(128, 96)
    with LargeTemporaries() as watch:
        sinkhorn(scores, epsilon=0.05, iterations=3)
    assert watch.over(BLOCK) == [128 * 96]


def test_cross_correlation_never_holds_its_matrix() -> None:
    a, b = bf16(8, 256), bf16(8, 256)
    with LargeTemporaries() as watch:
        cross_correlation(a, b, off_diagonal_weight=0.1).backward()
    assert watch.over(BLOCK) == []


def test_the_eager_path_would_be_caught() -> None:
    teacher, student = bf16(2, 64, 128), bf16(6, 64, 128)
    with LargeTemporaries() as watch:
        distillation_reference(teacher.float(), student.float(), **DISSL)[0].backward()
    assert watch.over(BLOCK) != []


@pytest.mark.parametrize("name", ["distillation", "soft_cross_entropy", "info_nce"])
def test_nothing_of_the_logits_size_is_saved_for_the_backward_pass(name: str) -> None:
    """Beyond the inputs themselves: a few numbers per row, and a row of marginals per view."""
    teacher, student = bf16(2, 64, 128), bf16(6, 64, 128)
    inputs = {x.untyped_storage().data_ptr() for x in (teacher, student)}
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in inputs:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if name == "info_nce":
            info_nce(student, teacher, temperature=0.1, keep_self=True)
        elif name == "distillation":
            distillation(teacher, student, **DISSL)
        else:
            targets = teacher.detach().softmax(-1)
            inputs.add(targets.untyped_storage().data_ptr())
            soft_cross_entropy(student, targets, temperature=0.1)
    assert saved
    assert max(saved) <= max(6 * 64, 2 * 128)
