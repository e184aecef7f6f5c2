"""Which implementation runs: by device, by the environment, by name; and errors for what cannot run."""

import logging

import pytest
import torch

from issl_kernels import cross_correlation, distillation, kernel_path, set_kernel_path, sinkhorn, soft_cross_entropy
from issl_kernels import path as path_module
from issl_kernels.path import resolved_path

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_module, "_state", path_module._State())
    monkeypatch.delenv("ISSL_KERNELS", raising=False)


@pytest.fixture
def not_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_auto_takes_the_chunked_path_on_a_cpu_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "issl_kernels"):
        assert [resolved_path("distillation", CPU, True) for _ in range(3)] == ["chunked"] * 3
    assert [record.getMessage() for record in caplog.records] == ["kernels: distillation takes the chunked path on cpu"]


def test_the_environment_comes_before_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    set_kernel_path("chunked")
    assert resolved_path("distillation", CPU, True) == "chunked"
    monkeypatch.setenv("ISSL_KERNELS", "reference")
    assert resolved_path("distillation", CPU, True) == "reference"
    with kernel_path("chunked"):
        assert resolved_path("distillation", CPU, True) == "chunked"
    assert resolved_path("distillation", CPU, True) == "reference"


def test_an_unknown_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSL_KERNELS", "cuda")
    with pytest.raises(ValueError, match="ISSL_KERNELS is 'cuda'; it must be one of auto, reference, chunked, triton"):
        sinkhorn(torch.randn(3, 4), epsilon=0.1, iterations=1)
    with pytest.raises(ValueError, match="must be one of"):
        set_kernel_path("fast")


def test_triton_that_cannot_run_is_an_error(not_interpreted: None) -> None:
    with kernel_path("triton"), pytest.raises(ValueError, match="the tensors are on cpu, not on an NVIDIA GPU"):
        soft_cross_entropy(torch.randn(2, 3, 4), torch.rand(2, 3, 4), temperature=0.1)


def test_triton_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_module, "HAS_TRITON", False)
    with kernel_path("triton"), pytest.raises(ValueError, match="pip install triton"):
        sinkhorn(torch.randn(3, 4), epsilon=0.1, iterations=1)


def test_an_operation_without_kernels_says_so() -> None:
    rows = torch.randn(3, 4)
    with kernel_path("triton"), pytest.raises(ValueError, match="cross_correlation has no Triton kernels"):
        cross_correlation(rows, rows, off_diagonal_weight=0.1)


@pytest.mark.parametrize("path", ["reference", "chunked"])
def test_every_path_gives_the_same(path: str) -> None:
    teacher, student = (torch.randn(v, 5, 6, generator=torch.Generator().manual_seed(v)).bfloat16() for v in (2, 3))
    settings = {
        "teacher_temperature": 0.5,
        "student_temperature": 1.0,
        "entropy_weight": 2.3,
        "invariance_weight": 0.8,
    }
    expected, _ = distillation(teacher.double(), student.double(), **settings)
    with kernel_path(path):
        found, _ = distillation(teacher, student, **settings)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_an_old_gpu_keeps_the_chunked_path_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, not_interpreted: None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with caplog.at_level(logging.INFO, "issl_kernels"):
        assert resolved_path("distillation", torch.device("cuda", 0), True) == "chunked"
    assert "the GPU has compute capability 7.5; 8.0 or newer is needed" in caplog.text
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert resolved_path("distillation", torch.device("cuda", 0), True) == "triton"
