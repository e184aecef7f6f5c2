"""Operators of the user: draws, what they are handed, where they apply, and what is refused before training."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.user import UserDraws, UserOperator, UserTransform
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.streams import ViewStreams

from .drawn_crops import SHARE, only, view_batch

N, SIDE = 32, 16
MODULE = """
import numpy as np
from nvidia.dali import fn, types

def inverted(view, uniform):
    return types.Constant(255, dtype=types.UINT8) - view

def dimmed(view, uniform):
    return fn.brightness(view, brightness=uniform)

def without_green(view, uniform):
    return view * types.Constant(np.array([1, 0, 1], dtype=np.uint8))

def shifted(view, uniform):
    return fn.crop(fn.pad(view, axes=[1], shape=[24]), crop=(16, 16), crop_pos_x=uniform)

def floats(view, uniform):
    return view * 1.0

def smaller(view, uniform):
    return fn.resize(view, size=[8, 8])

def planes_first(view, uniform):
    return fn.transpose(view, perm=[2, 0, 1])

def random_of_its_own(view, uniform):
    return fn.brightness(view, brightness=fn.random.uniform(range=(0.0, 1.0)))

def stops(view, uniform):
    raise RuntimeError("out of paint")

def takes_one(view):
    return view

def returns_none(view, uniform):
    return None

def beyond(view, uniform):
    return fn.slice(view, 300, 10, axes=[0])

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "painters.py").write_text(MODULE)
    (tmp_path / "torn.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)  # type: ignore[no-untyped-call]
    monkeypatch.delitem(sys.modules, "painters", raising=False)


def configure(*operators: tuple[str, float], own: bool = False) -> ViewsConfig:
    augmentation = Augmentation(
        flip=0, colour_jitter=None, greyscale=0,
        operators=tuple(UserOperator(function=path, probability=share) for path, share in operators),
    )  # fmt: skip
    group = CropGroup(count=1, size=SIDE, area=(1, 1), ratio=(1, 1), augmentation=augmentation if own else None)
    plain = Augmentation(flip=0, colour_jitter=None, greyscale=0)
    return ViewsConfig(
        groups=(group,), num_global_views=1, augmentation=plain if own else augmentation,
        mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255),
    )  # fmt: skip


def crops_and_draws(views: ViewsConfig, channels: int = 3) -> tuple[np.ndarray, np.ndarray, list[UserDraws]]:
    """Whole images as crops, the images that they come from, both HWC, and the draws."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, channels), dtype=np.uint8)
    images = ImageSet(labels=np.zeros(N, np.int64), sizes_HW=np.full((N, 2), SIDE, np.int32), pixels=pixels)
    loader = TrainingViews(
        images, views, batch_size=N, rank=0, world_size=1, seed=3, device=torch.device("cpu"), num_threads=2
    )
    batch = next(loader)
    loader.close()
    streams = ViewStreams(views, seed=3, channels=channels)
    (drawn,) = streams.batches(images.sizes_HW, epoch=0, first_position=0)
    (transforms,) = streams.transforms
    draws = [transform.draw(drawn) for transform in transforms if isinstance(transform, UserTransform)]
    crops = batch.crops[0][0].permute(0, 2, 3, 1).double().numpy()
    return crops, np.repeat(pixels[batch.ids.numpy()], 3 // channels, axis=-1).astype(np.float64), draws


def refusal(function: str, own: bool = False) -> str:
    with pytest.raises(ValueError) as caught:
        crops_and_draws(configure((function, 1.0), own=own))
    message = str(caught.value)
    assert "\n" not in message
    return message


OPERATORS = (UserOperator(function="a.b:c", probability=0.25), UserOperator(function="a.b:d"))


def test_probabilities_are_the_shares_of_crops_and_numbers_are_uniform() -> None:
    batch = view_batch(only(operators=OPERATORS))
    some, always = (UserTransform(operator, index).draw(batch) for index, operator in enumerate(OPERATORS))
    assert some.chosen.mean() == pytest.approx(0.25, abs=SHARE)
    assert always.chosen.all()
    for operator in (some, always):
        assert (operator.uniform.min(), operator.uniform.mean()) == pytest.approx((0, 0.5), abs=0.02)
        assert 0.999 < operator.uniform.max() < 1
    assert abs(np.corrcoef(some.chosen, some.uniform)[0, 1]) < 0.05


def test_an_unchosen_crop_is_marked_by_its_uniform_number_less_one() -> None:
    batch = view_batch(only(operators=OPERATORS), 200)
    transforms = [UserTransform(operator, index) for index, operator in enumerate(OPERATORS)]
    some, always = (transform.arrays(batch)["number"] for transform in transforms)
    first, second = (transform.draw(batch) for transform in transforms)
    assert some is not None
    np.testing.assert_array_equal(some >= 0, first.chosen)
    np.testing.assert_array_equal(np.where(some < 0, some + 1, some), first.uniform)
    np.testing.assert_array_equal(always, second.uniform)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_operator_changes_the_chosen_crops_alone(channels: int) -> None:
    crops, images, draws = crops_and_draws(configure(("painters:inverted", 0.4)), channels)
    chosen = draws[0].chosen
    assert 0 < chosen.sum() < N
    np.testing.assert_allclose(crops, np.where(chosen[:, None, None, None], 255 - images, images), atol=1e-3)


def test_an_operator_is_handed_the_drawn_uniform_number() -> None:
    crops, images, draws = crops_and_draws(configure(("painters:dimmed", 0.5)))
    (operator,) = draws
    factors = np.where(operator.chosen, operator.uniform, 1.0)[:, None, None, None]
    assert abs(crops - images * factors).max() <= 1


def test_constants_and_several_operators_go_together() -> None:
    crops, images, draws = crops_and_draws(configure(("painters:without_green", 0.5), ("painters:inverted", 0.5)))
    greenless, inverted = (operator.chosen[:, None, None, None] for operator in draws)
    expected = np.where(greenless, images * [1, 0, 1], images)
    np.testing.assert_allclose(crops, np.where(inverted, 255 - expected, expected), atol=1e-3)
    assert len({*zip(greenless.ravel(), inverted.ravel())}) == 4


def test_unchosen_crops_too_are_handed_a_number_from_0_to_1() -> None:
    """DALI stops at a crop_pos_x outside of that."""
    crops, images, draws = crops_and_draws(configure(("painters:shifted", 0.1)))
    unchanged = ~draws[0].chosen
    np.testing.assert_allclose(crops[unchanged], images[unchanged], atol=1e-3)


def test_the_key_of_a_group_is_named() -> None:
    assert refusal("painters:floats").startswith("views.augmentation.operators.0.function: 'painters:floats' ")
    assert refusal("painters:floats", own=True).startswith("views.groups.0.augmentation.operators.0.function: ")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nowhere.at.all:f", "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("torn:f", "cannot be imported (SyntaxError: invalid syntax (torn.py, line 1))"),
        ("painters:absent", "painters.py has no 'absent'; mend the name"),
        ("painters:number", "is of type int and cannot be called; name a function"),
        ("painters:floats", "returns float where uint8 is needed; end it with fn.cast"),
        ("painters:smaller", "makes 8 x 8 x 3 of crops of 16 x 16 x 3; it must keep their size"),
        ("painters:planes_first", "returns the layout CHW where HWC is needed"),
        ("painters:random_of_its_own", "gives other pixels each time that it is run; take its randomness from uniform"),
        ("painters:stops", "failed on crops of 16 x 16 x 3 (RuntimeError: out of paint); mend the function"),
        ("painters:takes_one", "takes 1 positional argument but 2 were given); it must take (view, uniform)"),
        ("painters:returns_none", "(it returned NoneType); it must take (view, uniform) and return one DALI node"),
        ("painters:beyond", "(RuntimeError: Slice can't be placed out of bounds with current policy); mend"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(function: str, reason: str) -> None:
    assert reason in refusal(function)
