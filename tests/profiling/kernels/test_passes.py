"""What is timed: passes, turns, copies, gradients."""

import torch
from torch import Tensor

from issl_profiling.kernels.passes import CPU_COPIES, Stage, input_copies, make_stages, time_in_turns

CPU = torch.device("cpu")


def square_sum(inputs: tuple[Tensor, ...]) -> Tensor:
    a, b = inputs
    return (a.square() * b).sum()


def test_copies_are_equal_and_share_no_memory() -> None:
    copies = input_copies((torch.randn(5), torch.randn(3)))
    assert len(copies) == CPU_COPIES
    assert all(torch.equal(x, y) for x, y in zip(*copies, strict=True))
    assert len({x.data_ptr() for inputs in copies for x in inputs}) == 2 * CPU_COPIES


def test_gradients_are_of_the_differentiable_inputs_times_a_scalar_that_is_not_one() -> None:
    a, b = torch.randn(5), torch.randn(5)
    stages = make_stages(square_sum, [(a, b)], 1)
    assert list(stages) == ["fwd", "bwd", "both"]
    for name in ("bwd", "both"):
        (gradient,) = stages[name].run(stages[name].prepare(0))  # type: ignore[misc]
        scale = gradient / (2 * a * b)
        assert torch.allclose(scale, scale[0].expand(5))
        assert not torch.isclose(scale[0], torch.tensor(1.0))


def test_every_pass_goes_from_copy_to_copy() -> None:
    seen: list[int] = []

    def call(inputs: tuple[Tensor, ...]) -> Tensor:
        seen.append(int(inputs[0][0]))
        return inputs[0].sum()

    for stage in make_stages(call, [(torch.full((1,), float(i)),) for i in range(3)], 1).values():
        seen.clear()
        for index in range(4):
            stage.run(stage.prepare(index))
        assert seen == [0, 1, 2, 0]


def test_the_forward_pass_builds_no_graph() -> None:
    stage = make_stages(square_sum, [(torch.randn(5), torch.randn(5))], 2)["fwd"]
    loss = stage.run(stage.prepare(0))
    assert isinstance(loss, Tensor)
    assert not loss.requires_grad


def test_an_operation_without_gradients_has_a_forward_pass_only() -> None:
    assert list(make_stages(square_sum, [(torch.randn(5), torch.randn(5))], 0)) == ["fwd"]


def test_providers_take_turns_and_the_copies_rotate() -> None:
    seen: list[tuple[str, int]] = []

    def stage(name: str) -> Stage:
        return Stage(prepare=lambda i: (name, i % 2), run=seen.append)

    spreads = time_in_turns({"a": stage("a"), "b": stage("b")}, 3, CPU)
    assert seen == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 0), ("b", 0)]
    assert list(spreads) == ["a", "b"]
