"""Fine-tuning: learns, leaves the given encoder alone, and lets only labelled images choose."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import issl_engine.probing.fine_tuning.accuracy as fine_tuned_accuracy_module
from issl_engine.models.encoders.base import Encoder
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.probing.fine_tuning.accuracy import LabelledImages, fine_tuned_accuracy
from issl_engine.probing.fine_tuning.label_share import label_share
from issl_engine.probing.fine_tuning.tuner import FineTuningConfig, Tuner, parameter_groups
from issl_engine.sources.base import ImageSet
from issl_engine.views.preprocessing import Preprocessing

CLASSES = 3
PREPROCESSING = Preprocessing(resize=16, crop=16, mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")


def stripes(count: int, seed: int) -> ImageSet:
    """The class is the width of the stripes, their place and colour chance: no linear function of pixels finds it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    period = np.array([2, 4, 8])[labels]
    phase = rng.integers(0, 8, count)
    wave = ((np.arange(16)[None] + phase[:, None]) // (period[:, None] // 2)) % 2
    pixels = np.broadcast_to((60 + 130 * wave)[:, None, :, None], (count, 16, 16, 3)) + rng.normal(
        0, 12, (count, 16, 16, 3)
    )
    return ImageSet(
        labels=labels, sizes_HW=np.full((count, 2), 16, np.int32), pixels=pixels.clip(0, 255).astype(np.uint8)
    )


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return SmallResNetConfig(width=8, stem_stride=1, dim=16).build(image_size=16)


def tuner(network: nn.Module, **keys) -> Tuner:
    settings = {"epochs": 6, "batch_size": 16, "lrs": (0.1,), "area": (0.6, 1.0)}
    return Tuner(
        encoder=network, num_classes=CLASSES, config=FineTuningConfig(**settings | keys),
        preprocessing=PREPROCESSING, device=torch.device("cpu"), num_threads=1, seed=0,
    )  # fmt: skip


def accuracy(one: Tuner, *, train: ImageSet, judged: ImageSet, label_fraction: float = 1.0):
    return fine_tuned_accuracy(
        one, LabelledImages(train=train, judged=judged, judged_split="test"),
        label_fraction=label_fraction, held_out_fraction=0.2, batch_size=32,
    )  # fmt: skip


def test_it_learns_what_a_frozen_encoder_does_not_show_and_leaves_the_encoder_as_it_was() -> None:
    network = encoder().eval()
    before = copy.deepcopy(network.state_dict())
    result = accuracy(tuner(network, lrs=(1e-6, 0.1)), train=stripes(96, 0), judged=stripes(60, 1))
    assert result.value > 85
    assert result.chosen == {"lr": 0.1}
    assert result.interval is not None
    assert result.interval[0] <= result.value <= result.interval[1]
    assert (result.probe, result.metric, result.setting, result.split) == ("fine_tuning", "top1", "", "test")
    assert (result.num_train_images, result.num_split_images) == (96, 60)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not network.training


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (tuner(encoder(), epochs=1).fine_tuned(stripes(32, 0), 0.1) for _ in range(2))
    for ours, theirs in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_weight_is_trained_though_the_encoder_was_frozen() -> None:
    network = encoder().requires_grad_(False)
    trained = tuner(network, epochs=1).fine_tuned(stripes(32, 0), 0.1)
    before = dict(network.named_parameters())
    for name, parameter in trained[0].named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_choice_does_not_depend_on_the_judged_images() -> None:
    train, judged = stripes(48, 0), stripes(30, 1)
    wrong = ImageSet(labels=(judged.labels + 1) % CLASSES, sizes_HW=judged.sizes_HW, pixels=judged.pixels)
    right, turned = (
        accuracy(tuner(encoder(), lrs=(0.01, 0.1), epochs=2), train=train, judged=one) for one in (judged, wrong)
    )
    assert right.chosen == turned.chosen
    assert right.held_out_value == turned.held_out_value
    assert right.value != turned.value


def test_images_that_were_not_fitted_choose_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, judged = [], []
    fit, judge = Tuner.fine_tuned, fine_tuned_accuracy_module._num_correct

    def fine_tuned(self: Tuner, images: ImageSet, lr: float) -> nn.Module:
        fitted.append(images)
        return fit(self, images, lr)

    def num_correct(model: nn.Module, one: Tuner, images: ImageSet, batch_size: int) -> int | None:
        judged.append(images)
        return judge(model, one, images, batch_size)

    monkeypatch.setattr(Tuner, "fine_tuned", fine_tuned)
    monkeypatch.setattr(fine_tuned_accuracy_module, "_num_correct", num_correct)
    accuracy(tuner(encoder(), epochs=1), train=stripes(60, 0), judged=stripes(12, 1))
    assert [len(images) for images in fitted] == [48, 60]
    assert [len(images) for images in judged] == [12, 12]
    seen = {images.pixels[place].tobytes() for images in fitted[:1] for place in range(48)}
    assert not seen & {judged[0].pixels[place].tobytes() for place in range(12)}


def test_a_share_of_labels_is_balanced_and_named() -> None:
    result = accuracy(tuner(encoder(), epochs=1), train=stripes(60, 0), judged=stripes(12, 1), label_fraction=0.1)
    assert result.setting == "10 % of labels"
    assert result.num_train_images == 6


@pytest.mark.parametrize(("share", "of_each"), [(1.0, [40, 20, 4]), (0.5, [20, 10, 2]), (0.01, [2, 2, 2])])
def test_label_share_takes_of_each_class_and_two_at_least(share: float, of_each: list[int]) -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 4])
    taken = label_share(labels, share, seed=3)
    assert np.bincount(labels[taken]).tolist() == of_each
    assert len(set(taken.tolist())) == len(taken)
    assert np.array_equal(taken, label_share(labels, share, seed=3))
    if share == 0.5:
        assert not np.array_equal(taken, label_share(labels, share, seed=4))


def test_a_class_with_one_image_is_reported() -> None:
    with pytest.raises(ValueError, match="class 1 has a single training image"):
        label_share(np.array([0, 0, 1]), 1.0, seed=0)


def test_learning_rates_that_diverge_are_reported() -> None:
    with pytest.raises(ValueError, match=r"diverged at every lr of \[1e\+30\]; lower fine_tuning.lrs"):
        accuracy(tuner(encoder(), lrs=(1e30,), epochs=1), train=stripes(48, 0), judged=stripes(12, 1))


class Three(Encoder):
    """A stem, two blocks and a norm after them."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stem, self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def blocks(self) -> list[nn.Module]:
        return [self.first, self.second]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        raise NotImplementedError


def test_layer_decay_gives_each_block_a_share_of_the_rate_above_it() -> None:
    network, head = Three(), nn.Linear(4, 2)
    config = FineTuningConfig(layer_decay=0.5, head_lr_factor=10, weight_decay=0.3)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in parameter_groups(network, head, config, 0.8)
        for parameter in group["params"]
    }
    expected = {network.norm: 0.8, network.second: 0.4, network.first: 0.2, network.stem: 0.1, head: 8.0}
    for module, lr in expected.items():
        assert found[id(module.bias)] == (pytest.approx(lr), 0.0)
        if module.weight.ndim > 1:
            assert found[id(module.weight)] == (pytest.approx(lr), 0.3)
    assert len(found) == len(list(network.parameters())) + 2


def test_layer_decay_needs_blocks() -> None:
    with pytest.raises(ValueError, match=r"fine_tuning.layer_decay: this encoder does not name its blocks"):
        parameter_groups(nn.Linear(4, 4), nn.Linear(4, 2), FineTuningConfig(layer_decay=0.5), 0.1)
