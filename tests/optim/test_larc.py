"""LARC against its formula in fp64, its edge cases, and slices of parameters on two ranks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from issl_engine.optim.larc import LARC, LARCConfig, Slice
from issl_engine.ranks import Ranks

LR, DECAY, MOMENTUM, TRUST = 0.4, 0.2, 0.9, 1e-2


def by_hand(w: Tensor, grads: list[Tensor], *, clip: bool, adapt: bool, decay: float) -> Tensor:
    momentum = torch.zeros_like(w)
    for grad in grads:
        ratio = 1.0
        if adapt:
            w_norm, grad_norm = w.square().sum().sqrt().item(), grad.square().sum().sqrt().item()
            ratio = TRUST * w_norm / (grad_norm + decay * w_norm + 1e-8)
            if clip:
                ratio = min(ratio / LR, 1.0)
        momentum = MOMENTUM * momentum + ratio * (grad + decay * w)
        w = w - LR * momentum
    return w


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("gradient_scale", [1.0, 1e-4], ids=["large_gradients", "small_gradients"])
def test_three_updates_equal_the_formula(clip: bool, exclude: bool, gradient_scale: float) -> None:
    torch.manual_seed(0)
    shapes = {"weight": (5, 3, 2, 2), "other": (4, 7), "bias": (6,)}
    weights = {name: nn.Parameter(torch.randn(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    scales = {"weight": 1.0, "other": 30.0, "bias": 0.1}
    grads = {
        name: [torch.randn(shape, dtype=torch.float64) * scales[name] * gradient_scale for _ in range(3)]
        for name, shape in shapes.items()
    }
    expected = {
        name: by_hand(
            weights[name].detach().clone(),
            grads[name],
            clip=clip,
            adapt=not (exclude and name == "bias"),
            decay=0.0 if name == "bias" else DECAY,
        )
        for name in shapes
    }
    config = LARCConfig(
        lr=LR,
        weight_decay=DECAY,
        trust_coefficient=TRUST,
        clip=clip,
        exclude_bias_and_norm_from_adaptation=exclude,
    )
    optimizer = config.build(weights.items(), no_decay=set(), lr=LR)
    for step in range(3):
        for name, weight in weights.items():
            weight.grad = grads[name][step]
        optimizer.step()
    for name, weight in weights.items():
        torch.testing.assert_close(weight.detach(), expected[name], rtol=1e-12, atol=1e-14)


def test_clipping_caps_the_ratio_where_scaling_would_exceed_the_learning_rate() -> None:
    def moved(clip: bool) -> float:
        weight = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
        weight.grad = torch.full((4, 4), 1e-6, dtype=torch.float64)
        LARC([weight], lr=LR, momentum=0.0, trust_coefficient=TRUST, clip=clip).step()
        return (1 - weight.detach()).mean().item()

    assert moved(clip=True) == pytest.approx(LR * 1e-6)
    # Without clipping the step is learning rate x trust x |w|, however small the gradient.
    assert moved(clip=False) == pytest.approx(LR * TRUST, rel=0.02)


def test_tensors_of_norm_zero_take_a_plain_sgd_step() -> None:
    zero_weight = nn.Parameter(torch.zeros(3, 3))
    zero_weight.grad = torch.full((3, 3), 0.5)
    zero_gradient = nn.Parameter(torch.ones(3, 3))
    zero_gradient.grad = torch.zeros(3, 3)
    LARC([zero_weight, zero_gradient], lr=LR, weight_decay=DECAY).step()
    torch.testing.assert_close(zero_weight.detach(), torch.full((3, 3), -LR * 0.5))
    torch.testing.assert_close(zero_gradient.detach(), torch.full((3, 3), 1 - LR * DECAY))


def test_parameters_without_gradient_stay_as_they_are() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.ones(2, 2)
    optimizer = LARC([used, unused], lr=LR)
    optimizer.step()
    assert not torch.equal(used.detach(), torch.ones(2, 2))
    assert torch.equal(unused.detach(), torch.ones(2, 2))
    assert unused not in optimizer.state


def test_a_changed_learning_rate_counts_at_the_next_step() -> None:
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = LARC([weight], lr=LR, momentum=0.0, trust_coefficient=TRUST)
    optimizer.param_groups[0]["lr"] = 0.0
    weight.grad = torch.ones(2, 2, dtype=torch.float64)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2, 2, dtype=torch.float64))


def test_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARC([weight], lr=LR)

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert weight.detach().max() < 1


def test_slices_without_a_norm_group_are_refused() -> None:
    weight = nn.Parameter(torch.ones(8))
    optimizer = LARC([weight], lr=LR)
    part = nn.Parameter(torch.ones(4))
    part.grad = torch.ones(4)
    optimizer.param_groups[0]["params"] = [part]
    with pytest.raises(ValueError, match="zero_stage"):
        optimizer.step()


def test_tensors_joined_without_their_places_are_refused() -> None:
    """What ZeRO makes of a group on one rank: nothing is missing, but the norm would be that of all layers together."""
    optimizer = LARC([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(5))], lr=LR)
    flat = nn.Parameter(torch.ones(8))
    flat.grad = torch.ones(8)
    optimizer.param_groups[0]["params"] = [flat]
    with pytest.raises(ValueError, match=r"as 1 of 2 tensors; set deepspeed\.zero_stage to 0"):
        optimizer.step()


def flattened_group(ranks: Ranks, whole: list[Tensor], grads: list[Tensor]) -> Tensor:
    """The tensors of a group one after the other and four numbers of padding, cut in the middle (at 10): all of the
    first lies with rank 0, of the second 4 numbers with rank 0 and 6 with rank 1."""
    optimizer = LARC([nn.Parameter(tensor.clone()) for tensor in whole], lr=LR, weight_decay=DECAY)
    optimizer.param_groups[0] |= {"trust_coefficient": TRUST}
    flat, gradient = (torch.cat([*tensors, torch.zeros(4)]).chunk(2)[ranks.rank].clone() for tensors in (whole, grads))
    flat = nn.Parameter(flat)
    flat.grad = gradient
    optimizer.param_groups[0]["params"] = [flat]
    slices = [[Slice(0, 6), Slice(6, 4)], [Slice(0, 0), Slice(0, 6)]]
    optimizer.take_slices({flat: slices[ranks.rank]}, ranks.group)
    optimizer.step()
    return flat.detach()


def slices_on_rank(ranks: Ranks, whole: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    parts = [nn.Parameter(tensor.chunk(2)[ranks.rank].clone()) for tensor in whole]
    optimizer = LARC(
        [{"params": [part]} for part in parts],
        lr=LR,
        weight_decay=DECAY,
        trust_coefficient=TRUST,
        norm_group=ranks.group,
    )
    for part, grad in zip(parts, grads, strict=True):
        part.grad = grad.chunk(2)[ranks.rank].clone()
    optimizer.step()
    return [*(part.detach() for part in parts), flattened_group(ranks, whole, grads)]


def test_two_ranks_with_half_of_each_tensor_step_as_one_with_all(run_ranks: Callable[..., list[list[Tensor]]]) -> None:
    torch.manual_seed(0)
    whole = [torch.randn(6, dtype=torch.float64), torch.randn(10, dtype=torch.float64) * 5]
    grads = [torch.randn(6, dtype=torch.float64), torch.randn(10, dtype=torch.float64)]
    halves = run_ranks(slices_on_rank, whole, grads)
    for index, (tensor, grad) in enumerate(zip(whole, grads, strict=True)):
        expected = by_hand(tensor, [grad], clip=False, adapt=True, decay=DECAY)
        actual = torch.cat([half[index] for half in halves])
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
    flat = torch.cat([half[-1] for half in halves])
    expected = torch.cat(
        [by_hand(w, [g], clip=False, adapt=True, decay=DECAY) for w, g in zip(whole, grads, strict=True)]
    )
    torch.testing.assert_close(flat[:16], expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(flat[16:], torch.zeros(4, dtype=torch.float64))
