"""Every optimiser: its update by hand, which weights decay, exact continuation from a state dict."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import issl_engine.optim as optim
from issl_engine.optim.adam import AdamConfig
from issl_engine.optim.adamw import AdamWConfig
from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.larc import LARCConfig
from issl_engine.optim.sgd import SGDConfig
from issl_engine.variants import variants

ALL = [
    AdamConfig(lr=0.1, weight_decay=0.3),
    AdamWConfig(lr=0.1, weight_decay=0.3),
    SGDConfig(lr=0.1, weight_decay=0.3, nesterov=True),
    LARCConfig(lr=0.1, weight_decay=0.3),
    LARCConfig(lr=0.1, weight_decay=0.3, clip=True, exclude_bias_and_norm_from_adaptation=True),
]
IDS = ["adam", "adamw", "sgd", "larc", "larc_clip"]


def model(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5)).to(dtype)


def give_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = noise.to(parameter.dtype)


def test_the_package_offers_its_four_optimisers() -> None:
    assert set(variants(optim, OptimizerConfig)) >= {"adam", "adamw", "larc", "sgd"}


def test_peak_lr_scales_with_the_batch_only_when_asked() -> None:
    assert LARCConfig(lr=0.3, lr_reference_batch=256).peak_lr(2560) == pytest.approx(3.0)
    assert LARCConfig(lr=0.3).peak_lr(2560) == 0.3


def test_the_optimiser_takes_the_given_lr_not_the_configs() -> None:
    for config in ALL:
        optimizer = config.build(model().named_parameters(), no_decay=set(), lr=0.7)
        assert {group["lr"] for group in optimizer.param_groups} == {0.7}


@pytest.mark.parametrize("config", ALL, ids=IDS)
@pytest.mark.parametrize("decay_all", [False, True])
def test_biases_norms_and_named_weights_do_not_decay(config: OptimizerConfig, decay_all: bool) -> None:
    network = model()
    network.get_parameter("0.bias").requires_grad_(False)
    config = config.model_copy(update={"decay_all": decay_all})
    optimizer = config.build(network.named_parameters(), no_decay={"3.weight"}, lr=0.1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decays = {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    small = 0.3 if decay_all else 0.0
    assert decays == {"0.weight": 0.3, "1.weight": small, "1.bias": small, "3.weight": 0.0, "3.bias": small}


def test_a_no_decay_name_that_no_parameter_has_is_caught() -> None:
    with pytest.raises(AssertionError, match="prototypes"):
        SGDConfig(lr=0.1).build(model().named_parameters(), no_decay={"prototypes.weight"}, lr=0.1)


def by_hand_adam(w: Tensor, grads: list[Tensor], *, decoupled: bool, lr: float, decay: float) -> Tensor:
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    for step, grad in enumerate(grads, start=1):
        if decoupled:
            w = w - lr * decay * w
        else:
            grad = grad + decay * w
        mean, square = 0.9 * mean + 0.1 * grad, 0.98 * square + 0.02 * grad**2
        w = w - lr * (mean / (1 - 0.9**step)) / ((square / (1 - 0.98**step)).sqrt() + 1e-6)
    return w


@pytest.mark.parametrize(("config_class", "decoupled"), [(AdamConfig, False), (AdamWConfig, True)])
def test_adam_decays_through_the_gradient_and_adamw_beside_it(config_class: type, decoupled: bool) -> None:
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    grads = [torch.randn(3, 4, dtype=torch.float64) for _ in range(3)]
    expected = by_hand_adam(weight.detach().clone(), grads, decoupled=decoupled, lr=0.05, decay=0.2)
    config = config_class(lr=0.05, weight_decay=0.2, betas=(0.9, 0.98), eps=1e-6)
    optimizer = config.build([("w", weight)], no_decay=set(), lr=0.05)
    for grad in grads:
        weight.grad = grad
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)


def test_sgd_with_nesterov_momentum_follows_the_formula() -> None:
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    expected, momentum = weight.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    config = SGDConfig(lr=0.05, weight_decay=0.2, momentum=0.8, nesterov=True)
    optimizer = config.build([("w", weight)], no_decay=set(), lr=0.05)
    for _ in range(3):
        weight.grad = torch.randn(3, 4, dtype=torch.float64)
        grad = weight.grad + 0.2 * expected
        momentum = 0.8 * momentum + grad
        expected = expected - 0.05 * (grad + 0.8 * momentum)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("config", ALL, ids=IDS)
def test_a_restored_state_dict_continues_bit_for_bit(config: OptimizerConfig) -> None:
    network = model(torch.float32)
    optimizer = config.build(network.named_parameters(), no_decay=set(), lr=0.1)
    for seed in range(3):
        give_gradients(network, seed)
        optimizer.step()
    copied = copy.deepcopy(network)
    restored = config.build(copied.named_parameters(), no_decay=set(), lr=99.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in range(3, 6):
        for one, its_optimizer in ((network, optimizer), (copied, restored)):
            give_gradients(one, seed)
            its_optimizer.step()
    for expected, actual in zip(network.parameters(), copied.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize(
    ("config_class", "bad"),
    [
        (AdamConfig, {"betas": (0.9, 1.0)}),
        (AdamWConfig, {"eps": 0}),
        (AdamWConfig, {"lr": -1}),
        (AdamWConfig, {"momentum": 0.9}),
        (SGDConfig, {"momentum": 1.0}),
        (SGDConfig, {"momentum": 0, "nesterov": True}),
        (LARCConfig, {"trust_coefficient": 0}),
        (LARCConfig, {"weight_decay": float("nan")}),
    ],
)
def test_values_that_cannot_train_are_refused(config_class: type, bad: dict) -> None:
    with pytest.raises(ValidationError):
        config_class(**({"lr": 0.1} | bad))
