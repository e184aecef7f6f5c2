"""Features of random crops of the training images, batch after batch, by one rank or by all of a run together.

The first rank leads: it holds the probe. For each pass that a probe asks for it sends the others the encoder and which
images to show, and each encodes its share of every batch: the same crops as one rank would cut, since crops follow from
the seed, the epoch and the image's place in it. Only features travel; they are far smaller than the gradients of a
grid of heads.

Letters: N images, B images of a batch, b of this rank's share, D width of the representation.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor, nn

from issl_engine.loading import TrainingViews
from issl_engine.mistakes import Mistake
from issl_engine.probing.features.extract import evaluating, representations
from issl_engine.probing.features.features import Features
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.probing.probes.base import Crops, TrainingCrops
from issl_engine.ranks import Ranks
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.preprocessing import Preprocessing

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class EncodedCrops(TrainingCrops):
    """Crops of ``images`` through the maker's encoder. A view of the features is known by its rows in ``images``;
    ``fitted_N`` (bool) says which of them probes may be fitted on."""

    maker: FeatureMaker
    images: ImageSet
    fitted_N: Tensor
    ranks: Ranks | None = None
    """Those that share the work, of which this is the first; None for this process alone."""

    def batches(self, features: Features, crops: Crops, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows_N = features.stored_rows
        assert self.fitted_N[rows_N].all(), "a probe was given images that judge it"
        pass_ = _Pass(
            encoder=self.maker.encoder, rows_N=rows_N, crops=crops, seed=seed, preprocessing=self.maker.preprocessing,
            num_threads=self.maker.num_threads,
        )  # fmt: skip
        ranks = self.ranks
        if ranks is not None and crops.batch_size % ranks.world_size:
            _log.info(
                "crops for probes: a batch of %d images cannot be divided among %d ranks, so the first alone encodes "
                "it; make batch_size a multiple", crops.batch_size, ranks.world_size,
            )  # fmt: skip
            ranks = None
        if ranks is not None and ranks.world_size > 1:
            ranks.from_first(replace(pass_, encoder=_on_cpu(pass_.encoder)))
        yield from _encoded(pass_, self.images, ranks, self.maker.device)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """What the ranks do together: ``rows_N`` are the images' places among those that they all know."""

    encoder: nn.Module | None
    rows_N: Tensor
    crops: Crops
    seed: int
    preprocessing: Preprocessing
    num_threads: int


def lead_or_follow(ranks: Ranks, images: Callable[[], ImageSet], lead: Callable[[], None]) -> None:
    """``lead`` on the first rank; the others encode their share of what it asks for until it is done.

    ``images``: those of which rows are counted, the same on every rank; they are asked for when they are needed. Every
    rank calls this. Raises what ``lead`` raises, on the first rank.
    """
    if ranks.is_first:
        lead()
        ranks.from_first(None)
        return
    nothing: _Pass | None = None
    while (pass_ := ranks.from_first(nothing)) is not None:
        encoder = None if pass_.encoder is None else pass_.encoder.to(ranks.device)
        for _ in _encoded(replace(pass_, encoder=encoder), images(), ranks, ranks.device):
            pass


def _encoded(
    pass_: _Pass, images: ImageSet, ranks: Ranks | None, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Float32 [B, D] on ``device`` and int64 [B] on the CPU, a batch at a time: the whole batch, on each rank.

    Raises Mistake, on all ranks, for an image that cannot be decoded and for features that are not finite.
    """
    chosen, size = images.subset(pass_.rows_N.numpy()), pass_.crops.batch_size
    world_size, rank = (1, 0) if ranks is None else (ranks.world_size, ranks.rank)
    loader = TrainingViews(
        chosen, one_crop(pass_.preprocessing, pass_.crops), batch_size=size // world_size, rank=rank,
        world_size=world_size, seed=pass_.seed, device=device, num_threads=pass_.num_threads, channels_last=True,
    )  # fmt: skip
    steps = pass_.crops.epochs * loader.batches_per_epoch
    try:
        with evaluating(pass_.encoder):
            own = _own_share(pass_, loader, device)
            batches = own if ranks is None or ranks.world_size == 1 else _together(own, ranks)
            yield from islice(batches, steps)
    finally:
        loader.close()


def _own_share(pass_: _Pass, loader: TrainingViews, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        z_bD = representations(pass_.encoder, batch.crops[0][0].to(device)).to(device)
        if not z_bD.isfinite().all():
            raise Mistake(
                "the encoder's features of a crop are NaN or infinite, so they cannot be probed; probe an earlier "
                "checkpoint, or pretrain with a lower learning rate"
            )
        yield z_bD, batch.labels


def _together(own: Iterator[tuple[Tensor, Tensor]], ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
    """Each rank's share, joined in the order of the ranks. What fails on one is raised on all of them."""
    while True:
        reason, share = None, None
        try:
            share = next(own)
        except Mistake as error:
            reason = str(error)
        failed = torch.tensor(int(share is None), device=ranks.device)
        dist.all_reduce(failed, group=ranks.group)
        if share is None or int(failed):
            raise Mistake(next(one for one in ranks.gather(reason) if one is not None))
        z_bD, labels_b = share
        yield _joined(z_bD, ranks), _joined(labels_b.to(ranks.device), ranks).cpu()


def _joined(part: Tensor, ranks: Ranks) -> Tensor:
    parts = [torch.empty_like(part) for _ in range(ranks.world_size)]
    dist.all_gather(parts, part.contiguous(), group=ranks.group)
    return torch.cat(parts)


def one_crop(preprocessing: Preprocessing, crops: Crops) -> ViewsConfig:
    """A random crop and flip of each image, of the size and normalisation with which it is judged."""
    return ViewsConfig.model_validate(
        {
            "groups": [CropGroup(count=1, size=preprocessing.crop, area=crops.area, ratio=crops.ratio)],
            "num_global_views": 1,
            "augmentation": Augmentation(flip=crops.flip, colour_jitter=None, greyscale=0),
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "interpolation": preprocessing.interpolation,
        }
    )


def _on_cpu(encoder: nn.Module | None) -> nn.Module | None:
    return None if encoder is None else copy.deepcopy(encoder).cpu()
