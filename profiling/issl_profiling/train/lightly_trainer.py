"""A trainer with lightly 1.6's own transform, heads and loss around the recipe's encoder, as its examples are written:
each view goes through the encoder by itself. Optimiser, batch, precision and workers are the recipe's.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from issl_engine.environment import version
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import ImageSet
from issl_engine.training.build import build_encoder
from issl_profiling.data.torchvision_loader import picture
from issl_profiling.torchvision_oracle import load_torchvision
from issl_profiling.train.candidate import Candidate, LeftOut, Shares
from issl_profiling.train.case import TrainCase
from issl_profiling.train.lightly_methods import METHODS, MULTI_CROP
from issl_profiling.train.plain import workers_ahead
from issl_profiling.train.shares import SharesClock

NAME = "lightly"
SIZES_OF_MULTI_CROP = 2
"""Its multi-crop transforms cut two sizes."""


def lightly_candidate(case: TrainCase) -> Candidate | LeftOut:
    """The trainer, or why it does not train this recipe."""
    reason = _obstacle(case.recipe)
    if reason is not None:
        return LeftOut(name=NAME, reason=reason)
    return Candidate(
        kind="peer", name=f"{NAME} {version(NAME)}", start=lambda: LightlyTraining(case),
        warmup_steps=workers_ahead(case), flops=None,
    )  # fmt: skip


def _obstacle(recipe: Recipe) -> str | None:
    if importlib.util.find_spec("lightly") is None:
        return "not installed; pip install 'issl-engine[peers]'"
    name, groups = recipe.objective.name, recipe.views.groups
    if name not in METHODS:
        return f"it has no {name}"
    if name in MULTI_CROP:
        if len(groups) != SIZES_OF_MULTI_CROP or groups[0].count != recipe.views.num_global_views:
            return f"its {name} takes two crop groups, the first of them the global views"
        return None
    if len(groups) != 1 or groups[0].count != 2:
        return f"its {name} compares two views of one size, and this recipe makes {recipe.views.num_views}"
    return None


def lightly_transform(recipe: Recipe) -> Callable[[Any], list[Tensor]]:
    """Its transform of the method at the recipe's crop sizes, counts and areas."""
    transforms: Any = import_module("lightly.transforms")
    name, groups = recipe.objective.name, recipe.views.groups
    size, least = groups[0].size, groups[0].area[0]
    made: Callable[[Any], list[Tensor]]
    if name == "swav":
        made = transforms.SwaVTransform(
            crop_sizes=tuple(group.size for group in groups), crop_counts=tuple(group.count for group in groups),
            crop_min_scales=tuple(group.area[0] for group in groups),
            crop_max_scales=tuple(group.area[1] for group in groups),
        )  # fmt: skip
    elif name == "dino":
        made = transforms.DINOTransform(
            global_crop_size=size, global_crop_scale=groups[0].area, local_crop_size=groups[1].size,
            local_crop_scale=groups[1].area, n_local_views=groups[1].count,
        )  # fmt: skip
    elif name in ("byol", "barlow_twins"):
        made = transforms.BYOLTransform(
            transforms.BYOLView1Transform(input_size=size, min_scale=least),
            transforms.BYOLView2Transform(input_size=size, min_scale=least),
        )
    else:
        kind = {"simclr": "SimCLRTransform", "simsiam": "SimSiamTransform", "vicreg": "VICRegTransform"}[name]
        made = getattr(transforms, kind)(input_size=size, min_scale=least)
    return made


class _Pictures(Dataset[list[Tensor]]):
    def __init__(self, images: ImageSet, transform: Callable[[Any], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(picture(self.images, index))


class LightlyTraining:
    """The loop and its state."""

    def __init__(self, case: TrainCase) -> None:
        with suppress(ImportError):  # lightly's own import tells
            load_torchvision()
        self.case, self.device = case, case.ranks.device
        encoder = build_encoder(case.recipe, case.seed)
        self.method = METHODS[case.recipe.objective.name](encoder, case.recipe).to(self.device).train()
        trainable = [(name, p) for name, p in self.method.named_parameters() if p.requires_grad]
        self.optimizer = case.recipe.optimizer.build(trainable, no_decay=set(), lr=case.plan.peak_lr)
        loader = case.loader
        self.loader = DataLoader(
            _Pictures(loader.images, lightly_transform(case.recipe)), batch_size=loader.batch_size, shuffle=True,
            drop_last=True, num_workers=loader.decode_threads, prefetch_factor=loader.prefetch_batches,
        )  # fmt: skip
        self.batches: Iterator[list[Tensor]] = _endless(self.loader)
        self.clock = SharesClock(self.device)

    def step(self) -> None:
        with self.clock.step():
            for _ in range(self.case.passes):
                with self.clock.waiting():
                    views = [view.to(self.device, non_blocking=True) for view in next(self.batches)]
                with self.case.autocast():
                    loss = self.method(views) / self.case.passes
                loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()
        float(loss.detach())

    def start_of_timing(self) -> None:
        self.clock.restart()

    def shares(self) -> Shares:
        return self.clock.shares()

    def close(self) -> None:
        """Ends the workers."""
        self.batches = iter(())


def _endless(loader: DataLoader[list[Tensor]]) -> Iterator[list[Tensor]]:
    while True:
        yield from loader
