"""The recipe's key for the kernels' path: honoured, or refused before training starts."""

import pytest
import torch
from click.testing import CliRunner

from issl_engine.cli import main
from issl_kernels import path as path_module
from issl_kernels.path import requested_path


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_module, "_state", path_module._State())
    monkeypatch.delenv("ISSL_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def pretrain(*overrides: str) -> tuple[int, str]:
    with CliRunner().isolated_filesystem():
        result = CliRunner().invoke(main, ["pretrain", "smoke", "--arm", "dissl", *overrides])
    return result.exit_code, result.stderr


def test_the_recipes_path_is_taken() -> None:
    code, messages = pretrain("training.kernels=reference")
    assert code == 0, messages
    assert requested_path() == "reference"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here Triton can run")
def test_triton_on_a_cpu_is_one_sentence_before_training() -> None:
    code, messages = pretrain("training.kernels=triton")
    assert code == 1
    assert "the Triton kernels were asked for, but the tensors are on cpu" in messages
    assert "ask for auto or chunked instead" in messages
    assert "Traceback" not in messages


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSL_KERNELS", "fast")
    code, messages = pretrain()
    assert code == 1
    assert "ISSL_KERNELS is 'fast'; it must be one of auto, reference, chunked, triton" in messages
