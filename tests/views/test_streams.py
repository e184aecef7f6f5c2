"""The random numbers of all views: what they depend on, and that no version changes them."""

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from issl_engine.random_streams import epoch_order
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import Colour, ColourJitter
from issl_engine.views.augmentations.flip import Flip
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.policy import PolicyStep
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.augmentations.user import UserOperator, UserTransform
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.streams import ViewStreams

SHARED = Augmentation(
    flip=0.3,
    colour_jitter=ColourJitter(probability=0.6, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1),
    greyscale=0.25,
    blur=Blur(probability=0.7, sigma=(0.5, 2.0)),
    solarise=Solarise(probability=0.2),
)
"""All that draw from the stream VIEWS."""
EVERYTHING = SHARED.model_copy(
    update={
        "rotation": Rotation(probability=0.3, degrees=(-20, 60)),
        "policy": RandAugment(name="rand_augment", magnitude_std=3),
        "gaussian_noise": GaussianNoise(probability=0.7, std=(2, 12)),
        "operators": (UserOperator(function="a.b:c", probability=0.25), UserOperator(function="a.b:d")),
    }
)
TRIVIAL = Augmentation(policy=TrivialAugment(name="trivial_augment"))
NAMES = {"Flip": "flip", "Blur": "sigma", "Solarise": "solarise"}
"""Transforms whose draws are one array, and how it is called below."""
DIGESTS = {
    "start_HW": "1edea8f34259",
    "end_HW": "ff564e3e4412",
    "flip": "8c7bf25b08c6",
    "hue": "26f44d855749",
    "saturation": "8d45bd66f7ae",
    "contrast": "08cb964b7c8c",
    "brightness": "eff28a223d54",
    "brightness_first": "f051b910a56c",
    "sigma": "29f03535bcc3",
    "solarise": "99426c7614f7",
}
OWN_DIGESTS = {
    "Rotation.rotated": "edc1cc6261ce",
    "Rotation.degrees": "9f1a42371d8b",
    "PolicyStep 0.operation": "1ea03d08a0f8",
    "PolicyStep 0.value": "5bc2389e561b",
    "PolicyStep 0.matrix": "309c9a80f8b2",
    "PolicyStep 1.operation": "7d72032e2ab6",
    "PolicyStep 1.value": "0b595786e9f6",
    "PolicyStep 1.matrix": "57dfa1002bd4",
    "GaussianNoise.std": "eb80629f7b9e",
    "GaussianNoise.start": "0d97bee351ee",
    "UserTransform 0.chosen": "9a4b6a6b4b39",
    "UserTransform 0.uniform": "8f36db789935",
    "UserTransform 1.chosen": "0d206c94e5ba",
    "UserTransform 1.uniform": "ce0ea1a310a8",
}


def configure(augmentation: Augmentation = EVERYTHING, *others: CropGroup) -> ViewsConfig:
    return ViewsConfig(
        groups=(CropGroup(count=2, size=16, area=(0.08, 1.0)), *others), num_global_views=2, augmentation=augmentation
    )


ALONE = configure(SHARED)
WITH_OTHERS = configure(EVERYTHING, CropGroup(count=1, size=8, augmentation=TRIVIAL))


def draw(
    views: ViewsConfig, count: int, *, first: int = 0, seed: int = 0, epoch: int = 0
) -> list[dict[str, np.ndarray]]:
    """For each view all that is drawn, by name; a transform's place distinguishes those of one kind."""
    streams = ViewStreams(views, seed=seed, channels=3)
    sizes_HW = np.tile(np.array([[48, 64]], dtype=np.int32), (count, 1))
    drawn = []
    for transforms, batch in zip(
        streams.transforms, streams.batches(sizes_HW, epoch=epoch, first_position=first), strict=True
    ):
        found: dict[str, np.ndarray] = {}
        for transform in transforms:
            kind, draws = type(transform).__name__, transform.draw(batch)  # type: ignore[attr-defined]
            named = (
                {field.name: getattr(draws, field.name) for field in fields(draws)}
                if is_dataclass(draws)
                else {NAMES[kind]: draws}
            )
            place = f" {transform.index}" if isinstance(transform, PolicyStep | UserTransform) else ""
            own = {f"{kind}{place}.{name}": array for name, array in named.items()}
            found |= named if kind in ("Crop", "Colour", *NAMES) else own
        drawn.append(found)
    return drawn


def numbers(views: ViewsConfig = WITH_OTHERS) -> list[str]:
    """The names of draws that are not the same for all images of the first view."""
    return [name for name, array in draw(views, 50)[0].items() if len(np.unique(array)) > 1]


def test_all_that_is_drawn_is_looked_at() -> None:
    assert len(draw(WITH_OTHERS, 4)[0]) == len(DIGESTS) + len(OWN_DIGESTS)
    assert len(numbers()) >= len(DIGESTS) + len(OWN_DIGESTS) - 1  # an operator of probability 1 is always chosen


@pytest.mark.parametrize("views", [ALONE, WITH_OTHERS])
def test_a_position_gets_the_same_draws_in_any_batch(views: ViewsConfig) -> None:
    whole, parts = draw(views, 12), [draw(views, 4, first=first) for first in (0, 4, 8)]
    for view, draws in enumerate(whole):
        for name, array in draws.items():
            joined = np.concatenate([part[view][name] for part in parts])
            np.testing.assert_array_equal(array, joined, err_msg=name)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"first": 50}])
@pytest.mark.parametrize("views", [ALONE, WITH_OTHERS])
def test_seed_epoch_and_position_each_change_every_draw(views: ViewsConfig, other: dict[str, int]) -> None:
    ours, theirs = draw(views, 50)[0], draw(views, 50, **other)[0]
    for name in numbers(views):
        assert not np.array_equal(ours[name], theirs[name]), name


def test_views_differ_and_so_do_the_windows_of_images() -> None:
    first, second, _ = draw(WITH_OTHERS, 50)
    for name in numbers():
        assert not np.array_equal(first[name], second[name]), name
    assert len(np.unique(first["start_HW"] + 100 * first["end_HW"], axis=0)) > 40


def test_other_augmentations_change_no_draw() -> None:
    """Each has numbers of its own."""
    for alone, beside in zip(draw(ALONE, 50), draw(WITH_OTHERS, 50)):
        # A third view moves the numbers of the others from image to image, but not those of the first image.
        for name, array in alone.items():
            np.testing.assert_array_equal(array[0], beside[name][0], err_msg=name)
    for alone, beside in zip(draw(ALONE, 50), draw(configure(EVERYTHING), 50), strict=True):
        for name, array in alone.items():
            np.testing.assert_array_equal(array, beside[name], err_msg=name)


def test_an_epochs_order_is_a_permutation_that_seed_and_epoch_change() -> None:
    first = epoch_order(500, seed=3, epoch=0)
    assert sorted(first) == list(range(500))
    np.testing.assert_array_equal(first, epoch_order(500, seed=3, epoch=0))
    for other in (epoch_order(500, seed=3, epoch=1), epoch_order(500, seed=4, epoch=0)):
        assert (first == other).mean() < 0.05


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed: {seed} is out of range"):
        epoch_order(4, seed=seed, epoch=0)


@pytest.mark.parametrize(("views", "digests"), [(ALONE, DIGESTS), (configure(), DIGESTS | OWN_DIGESTS)])
def test_no_draw_changes_from_one_version_to_the_next(views: ViewsConfig, digests: dict[str, str]) -> None:
    """A run that goes on under a newer version sees the crops that it would have seen."""
    drawn = draw(views, 2000, first=7, seed=3, epoch=2)
    assert drawn[0].keys() == digests.keys()
    for name, digest in digests.items():
        joined = b"".join(np.ascontiguousarray(draws[name]).tobytes() for draws in drawn)
        assert hashlib.sha256(joined).hexdigest()[:12] == digest, name


def test_nothing_is_drawn_for_parts_that_are_off() -> None:
    off = Augmentation(flip=0, colour_jitter=None, greyscale=0)
    transforms = configure(off).transforms_of(configure(off).groups[0])
    assert [type(transform) for transform in transforms[1:]] == [Colour, Flip]
    (draws, _) = draw(configure(off), 64)
    assert not draws["flip"].any()
    assert not draws["hue"].any()
    for name in ("brightness", "contrast", "saturation"):
        assert (draws[name] == 1).all()
    nothing = off.model_copy(update={"blur": Blur(probability=0), "solarise": Solarise(probability=0)})
    streams = ViewStreams(configure(nothing), seed=0, channels=3)
    for arrays in streams.arrays(np.full((64, 2), 32, np.int32), epoch=0, first_position=0):
        assert [name for part in arrays for name, array in part.items() if array is not None] == [
            "start_HW", "end_HW", "mirrored",
        ]  # fmt: skip
