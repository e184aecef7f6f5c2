"""The contact sheet shows the images, their crops, and what was done to them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from issl_engine.loading.contact_sheet import group_legend, write_contact_sheet
from issl_engine.random_streams import epoch_order
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.policy import ALL_OPERATIONS
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.augmentations.user import UserOperator
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.masks import PatchMask
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.streams import draw_masks

PLAIN = Augmentation(flip=0, colour_jitter=None, greyscale=0)


def flat_images(count: int, channels: int = 3) -> ImageSet:
    """Image i has the colour i, so any window of it has, too."""
    colours = np.random.default_rng(0).integers(20, 236, (count, 1, 1, channels), dtype=np.uint8)
    pixels = np.broadcast_to(colours, (count, 36, 36, channels))
    return ImageSet(labels=np.zeros(count, np.int64), sizes_HW=np.full((count, 2), 36, np.int32), pixels=pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_row_holds_an_image_and_its_crops_in_their_own_colours(tmp_path: Path, channels: int) -> None:
    images = flat_images(9, channels)
    views = ViewsConfig(
        groups=(CropGroup(count=2, size=36), CropGroup(count=3, size=12, area=(0.1, 0.3))), augmentation=PLAIN
    )
    write_contact_sheet(tmp_path / "sheet.png", images, views, num_images=4, seed=3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert images.pixels is not None
    order = epoch_order(9, seed=3, epoch=0)[:4]
    cell, gap = 72, 6
    for row, image in enumerate(order):
        y = pixels.shape[0] - (4 - row) * (cell + gap) + cell // 2
        for column in range(6):
            x = gap + column * (cell + gap) + cell // 2
            assert abs(pixels[y, x] - images.pixels[image, 0, 0]).max() <= 1
            assert (pixels[y, x - cell // 2 - gap // 2] == 255).all()


def test_asking_for_more_images_than_there_are_shows_all(tmp_path: Path) -> None:
    views = ViewsConfig(groups=(CropGroup(count=2, size=36),), augmentation=PLAIN)
    heights = []
    for count in (3, 50):
        write_contact_sheet(tmp_path / "sheet.png", flat_images(3), views, num_images=count, seed=0)
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] == heights[1]


def test_the_same_seed_draws_the_same_sheet(tmp_path: Path) -> None:
    views = ViewsConfig(groups=(CropGroup(count=2, size=16),))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_contact_sheet(tmp_path / name, flat_images(5), views, num_images=2, seed=seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_files_are_shown_upright_and_small(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (200, 100), (200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    images = ImageSet(
        labels=np.zeros(1, np.int64),
        sizes_HW=np.array([[200, 100]], np.int32),
        paths=(str(tmp_path / "a.jpg"),),
    )
    views = ViewsConfig(groups=(CropGroup(count=2, size=24),), augmentation=PLAIN)
    write_contact_sheet(tmp_path / "sheet.png", images, views, num_images=1, seed=0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        original = np.asarray(sheet)[-78:-6, 6:78]
    shown = (original[..., 1] < 100).nonzero()
    assert (np.ptp(shown[0]) + 1, np.ptp(shown[1]) + 1) == (72, 36)


def test_the_legend_names_every_part_that_is_on() -> None:
    everything = Augmentation(
        flip=0.5,
        colour_jitter=ColourJitter(probability=0.8, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05),
        greyscale=0.25,
        blur=Blur(probability=0.6, sigma=(0.1, 2.0)),
        solarise=Solarise(probability=0.7, threshold=99),
    )
    assert everything.legend() == (
        "flip 0.5, jitter 0.8 (brightness 0.1, contrast 0.2, saturation 0.3, hue 0.05), grey 0.25, "
        "blur 0.6 (sigma 0.1 to 2 px), solarise 0.7 (from 99)"
    )
    assert PLAIN.legend() == "flip 0, grey 0"


def test_the_legend_names_rotation_policy_noise_and_operators() -> None:
    everything = Augmentation(
        flip=0,
        rotation=Rotation(probability=0.5, degrees=(-10, 20), fill=9),
        policy=RandAugment(name="rand_augment", num_ops=3, magnitude=7, magnitude_std=0.5),
        colour_jitter=None,
        greyscale=0,
        gaussian_noise=GaussianNoise(probability=0.3, std=(1, 5)),
        operators=(UserOperator(function="paint.box:dim", probability=0.1),),
    )
    assert everything.legend() == (
        "flip 0, rotation 0.5 (-10 to 20 degrees, fill 9), rand_augment (3 of magnitude 7 ± 0.5), grey 0, "
        "noise 0.3 (std 1 to 5 grey levels), paint.box:dim 0.1"
    )


def test_the_legend_names_a_policys_operations_where_some_are_left_out() -> None:
    few = TrivialAugment(name="trivial_augment", operations=("rotate", "colour"))
    most = TrivialAugment(name="trivial_augment", operations=ALL_OPERATIONS[:-1])
    described = [PLAIN.model_copy(update={"policy": policy}).legend() for policy in (few, most)]
    assert described == [
        "flip 0, trivial_augment (1 of any magnitude, rotate colour), grey 0",
        "flip 0, trivial_augment (1 of any magnitude, all operations but equalise), grey 0",
    ]


def test_the_legend_of_a_group_names_its_mask_and_normalisation() -> None:
    mask = PatchMask(patch_size=4, ratio=(0.2, 0.5), kind="block")
    group = CropGroup(count=2, size=36, mean=(0.5, 0.25, 0), mask=mask)
    _, _, masked, normalised = group_legend("groups.0", group, ViewsConfig(groups=(group,), augmentation=PLAIN))
    assert masked.strip() == "mask 0.2 to 0.5 of 9 x 9 patches of 4 px (block), shown grey"
    assert normalised.strip() == "mean 0.5 0.25 0, std 0.229 0.224 0.225"


def test_crops_of_a_group_with_its_own_normalisation_have_their_own_colours(tmp_path: Path) -> None:
    images = flat_images(1)
    groups = (CropGroup(count=1, size=36), CropGroup(count=1, size=36, mean=(0.1, 0.9, 0.5), std=(0.2, 0.9, 0.1)))
    write_contact_sheet(
        tmp_path / "sheet.png", images, ViewsConfig(groups=groups, augmentation=PLAIN), num_images=1, seed=0
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert images.pixels is not None
    for column in (1, 2):
        assert abs(pixels[-40, 6 + column * 78 + 36] - images.pixels[0, 0, 0]).max() <= 1


def test_masked_patches_are_greyed(tmp_path: Path) -> None:
    images = flat_images(1)
    mask = PatchMask(patch_size=12, ratio=(0.45, 0.45))
    views = ViewsConfig(groups=(CropGroup(count=2, size=36, mask=mask),), augmentation=PLAIN)
    write_contact_sheet(tmp_path / "sheet.png", images, views, num_images=1, seed=0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    (drawn,) = draw_masks(views, 1, seed=0, epoch=0, first_position=0)
    assert images.pixels is not None
    assert drawn is not None
    assert drawn.sum() == 8
    colour = images.pixels[0, 0, 0].astype(int)
    for view in range(2):
        for row, column in np.ndindex(3, 3):
            # one patch is 24 px of the enlarged crop
            shown = pixels[-78 + 24 * row + 12, 6 + 78 * (view + 1) + 24 * column + 12]
            expected = 128 + (colour - 128) * 0.2 if drawn[view, 0, row, column] else colour
            assert abs(shown - expected).max() <= 1
