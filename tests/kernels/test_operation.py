"""Operations whose one signature is their schema: in tracing, in new memory, and in the memory of an argument."""

import pytest
import torch
from torch import Tensor

from issl_kernels.operation import gradient_operations, operation


def _scaled_results(x_BD: Tensor) -> Tensor:
    return x_BD.new_empty(x_BD.shape)


@operation(results=_scaled_results)
def scaled_for_tests(factor: float, x_BD: Tensor) -> Tensor:
    return x_BD * factor


def _write(d_x_BD: Tensor, upstream: Tensor, x_BD: Tensor) -> None:
    torch.mul(x_BD, upstream, out=d_x_BD)


def _write_all(d: tuple[Tensor, Tensor], x_BD: Tensor, y_BD: Tensor, factor: float) -> None:
    for d_z_BD, z_BD in zip(d, (x_BD, y_BD), strict=True):
        torch.mul(z_BD, factor, out=d_z_BD)


one, one_ = gradient_operations("one_for_tests", _write, of=("x_BD",))
both, both_ = gradient_operations("both_for_tests", _write_all, of=("x_BD", "y_BD"))


def schema(name: str) -> str:
    return str(getattr(torch.ops.issl_kernels, name).default._schema).removeprefix("issl_kernels::")


def test_the_signature_is_the_schema() -> None:
    assert schema("scaled_for_tests") == "scaled_for_tests(float factor, Tensor x_BD) -> Tensor"
    assert schema("one_for_tests") == "one_for_tests(Tensor upstream, Tensor x_BD) -> Tensor"
    assert schema("one_for_tests_") == "one_for_tests_(Tensor upstream, Tensor(a1!) x_BD) -> ()"
    assert schema("both_for_tests") == "both_for_tests(Tensor x_BD, Tensor y_BD, float factor) -> (Tensor, Tensor)"
    assert schema("both_for_tests_") == "both_for_tests_(Tensor(a0!) x_BD, Tensor(a1!) y_BD, float factor) -> ()"


def test_results_without_data_are_like_those_with() -> None:
    x_BD, y_BD, upstream = torch.randn(3, 5), torch.randn(2, 5), torch.tensor(0.7)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    for function, arguments in (
        (scaled_for_tests, (2.0, x_BD)),
        (one, (upstream, x_BD)),
        (one_, (upstream, x_BD.clone())),
        (both, (x_BD, y_BD, 0.5)),
        (both_, (x_BD.clone(), y_BD.clone(), 0.5)),
    ):
        torch.library.opcheck(function, arguments, test_utils=tests)  # type: ignore[arg-type]


def test_gradients_are_the_same_in_new_memory_and_in_the_arguments() -> None:
    x_BD, y_BD = torch.randn(3, 5), torch.randn(2, 5)
    expected, kept = (x_BD * 0.5, y_BD * 0.5), x_BD.clone()
    found = both(x_BD, y_BD, 0.5)
    assert torch.equal(x_BD, kept)
    both_(x_BD, y_BD, 0.5)
    for truth, new, own in zip(expected, found, (x_BD, y_BD), strict=True):
        assert torch.equal(new, truth)
        assert torch.equal(own, truth)


def test_a_name_that_is_no_argument_is_refused() -> None:
    def results(rows: Tensor) -> Tensor:
        return rows

    def function(x_BD: Tensor) -> Tensor:
        return x_BD

    with pytest.raises(ValueError, match="rows is no argument of the operation, which has x_BD"):
        operation(results=results)(function)
    with pytest.raises(ValueError, match="z_BD is no argument of the operation, which has upstream, x_BD"):
        gradient_operations("wrong_for_tests", _write, of=("z_BD",))
