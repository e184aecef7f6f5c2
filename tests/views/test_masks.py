"""Masks of patches: how many, where, and what they depend on."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_engine.views.masks import PatchMask, draw_mask
from issl_engine.views.streams import draw_masks


def views(kind: str = "random", ratio: tuple[float, float] = (0.4, 0.4)) -> ViewsConfig:
    return ViewsConfig.model_validate(
        {
            "groups": [
                {"count": 2, "size": 224, "mask": {"patch_size": 16, "ratio": ratio, "kind": kind}},
                {"count": 3, "size": 96},
                {"count": 1, "size": 96, "mask": {"patch_size": 32, "ratio": ratio, "kind": kind}},
            ]
        }
    )


def one(kind: str, side: int, ratio: float, seed: int) -> np.ndarray:
    mask = PatchMask.model_validate({"patch_size": 4, "ratio": (ratio, ratio), "kind": kind})
    return draw_mask(mask, side, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["random", "block"])
def test_shapes_and_types(kind: str) -> None:
    first, second, third = draw_masks(views(kind), 5, seed=0, epoch=0, first_position=0)
    assert second is None
    assert first is not None
    assert third is not None
    assert (first.dtype, tuple(first.shape)) == (torch.bool, (2, 5, 14, 14))
    assert (third.dtype, tuple(third.shape)) == (torch.bool, (1, 5, 3, 3))


@pytest.mark.parametrize("kind", ["random", "block"])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.37, 0.75, 1.0])
@pytest.mark.parametrize("side", [1, 2, 7, 14])
def test_the_number_of_masked_patches_is_exact(kind: str, ratio: float, side: int) -> None:
    for seed in range(10):
        assert one(kind, side, ratio, seed).sum() == round(ratio * side * side)


@pytest.mark.parametrize("kind", ["random", "block"])
def test_the_share_is_drawn_from_its_range(kind: str) -> None:
    (masks, _, _) = draw_masks(views(kind, (0.2, 0.6)), 150, seed=0, epoch=0, first_position=0)
    assert masks is not None
    shares = masks.float().mean(dim=(2, 3))
    assert 39 / 196 <= shares.min() < 0.24  # rounded to whole patches
    assert 0.56 < shares.max() <= 118 / 196
    assert shares.mean().item() == pytest.approx(0.4, abs=0.03)


def test_random_masks_hit_every_patch_equally() -> None:
    hits = np.mean([one("random", 6, 0.25, seed) for seed in range(2000)], axis=0)
    assert hits == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 2000))


def neighbours_alike(mask: np.ndarray) -> float:
    return float((mask[:, 1:] == mask[:, :-1]).mean())


def test_block_masks_hang_together_and_random_ones_do_not() -> None:
    blocks = np.mean([neighbours_alike(one("block", 14, 0.4, seed)) for seed in range(50)])
    scattered = np.mean([neighbours_alike(one("random", 14, 0.4, seed)) for seed in range(50)])
    assert scattered == pytest.approx(0.52, abs=0.03)
    assert blocks > 0.8


BOXES = ((4, 4), (3, 5), (5, 3), (2, 7), (7, 2), (2, 6), (6, 2))
"""Blocks of about 16 patches; the last two come where a side is rounded from just below 6.5."""


def test_blocks_are_wide_tall_and_square() -> None:
    """Where 16 patches are wanted, most are in one block of an aspect from 0.3 to 1/0.3."""
    heights = []
    for seed in range(200):
        mask = one("block", 14, 16 / 196, seed)
        boxes = [box for box in BOXES if has_block(mask, *box)]
        assert boxes
        heights.append(boxes[0][0])
    assert {2, 3, 4, 5, 7} <= set(heights)


def has_block(mask: np.ndarray, height: int, width: int) -> bool:
    return bool(np.lib.stride_tricks.sliding_window_view(mask, (height, width)).all(axis=(2, 3)).any())


@pytest.mark.parametrize("kind", ["random", "block"])
def test_masks_depend_on_seed_epoch_position_and_view_alone(kind: str) -> None:
    def masks(count: int, first: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
        drawn = draw_masks(views(kind), count, seed=seed, epoch=epoch, first_position=first)[0]
        assert drawn is not None
        return drawn

    whole = masks(8, 0)
    assert torch.equal(whole, torch.cat([masks(3, 0), masks(5, 3)], dim=1))
    assert not torch.equal(whole[0], whole[1])
    assert len(torch.unique(whole.flatten(0, 1).flatten(1), dim=0)) == 16
    for other in (masks(8, 0, seed=1), masks(8, 0, epoch=1), masks(8, 8)):
        assert not (other == whole).flatten(2).all(dim=2).any()


def test_groups_have_masks_of_their_own() -> None:
    group = CropGroup(count=2, size=64, mask=PatchMask(patch_size=8))
    first, second = draw_masks(ViewsConfig(groups=(group, group)), 4, seed=0, epoch=0, first_position=0)
    assert first is not None
    assert second is not None
    assert not (first == second).flatten(2).all(dim=2).any()


def test_a_patch_size_that_does_not_divide_the_crop_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"mask.patch_size is 16 px, which does not divide .* 36 px"):
        CropGroup(count=1, size=36, mask=PatchMask(patch_size=16))


def test_a_batch_takes_its_masks_along() -> None:
    mask = torch.ones(2, 1, 2, 2, dtype=torch.bool)
    crops, ids = (torch.zeros(2, 1, 3, 8, 8), torch.zeros(1, 1, 3, 8, 8)), torch.zeros(1, dtype=torch.int64)
    batch = MultiCropBatch(crops=crops, ids=ids, labels=ids, masks=(mask, None)).to(torch.device("meta"))
    assert batch.masks[0] is not None
    assert batch.masks[0].device.type == "meta"
    assert batch.masks[1] is None
    assert MultiCropBatch(crops=crops, ids=ids, labels=ids).masks == (None, None)
