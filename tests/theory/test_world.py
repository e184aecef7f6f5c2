"""Images whose equivalence classes are known."""

import pytest
import torch
from pydantic import ValidationError

from issl_engine.theory.world import WorldConfig, draw_world, invariant_of_finest

SMALL = WorldConfig(kinds=2, sizes=2, hues=2, train_images=4, test_images=4)


def test_equal_seeds_give_equal_pixels_and_no_image_is_there_twice() -> None:
    world, again, other = draw_world(SMALL, 0), draw_world(SMALL, 0), draw_world(SMALL, 1)
    assert torch.equal(world.train.images, again.train.images)
    assert not torch.equal(world.train.images, other.train.images)
    every = torch.cat([world.train.images, world.test.images]).flatten(1)
    assert every.shape == (64, 3 * 16 * 16)
    assert len(every.unique(dim=0)) == 64


def test_the_equivalence_class_is_the_kept_factors() -> None:
    assert invariant_of_finest(SMALL, ("kind",)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert invariant_of_finest(SMALL, ("hue",)).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert invariant_of_finest(SMALL, ("kind", "hue")).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert invariant_of_finest(SMALL, ("hue", "kind")).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert invariant_of_finest(SMALL, ("kind", "size", "hue")).tolist() == list(range(8))


def test_sizes_and_hues_can_be_distinguished() -> None:
    world = draw_world(SMALL.model_copy(update={"train_images": 16}), 0)
    pixels = world.train.images_FnCHW * 0.25 + 0.5
    coloured = (pixels.amax(2) - pixels.amin(2) > 0.3).double().mean((1, 2, 3))  # backgrounds are grey
    small, large = coloured[[0, 1, 4, 5]], coloured[[2, 3, 6, 7]]
    assert large.min() > 1.3 * small.max()
    red, green = pixels[:, :, 0].mean((1, 2, 3)), pixels[:, :, 1].mean((1, 2, 3))
    assert (red > green).tolist() == [True, False] * 4


def test_two_classes_are_too_few() -> None:
    with pytest.raises(ValidationError, match="gives 2 equivalence classes, and the theory says something from 3 on"):
        WorldConfig(kinds=2, sizes=1, hues=1)
