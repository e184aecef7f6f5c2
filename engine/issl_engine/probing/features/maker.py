"""From images to features: taken from the cache, or computed and kept there batch by batch.

Letters: b images of a batch, N images, h height, w width.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from issl_engine.loading import EvaluationImages
from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.features.extract import extract_features, feature_batches
from issl_engine.probing.features.features import Features
from issl_engine.probing.features.preprocessing import Preprocessing
from issl_engine.sources.base import ImageSet
from issl_engine.sources.images.digests import OnImage, content_digest
from issl_engine.views.corruptions import Corruption

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class FeatureMaker:
    """An encoder, how it is shown images, and where its features are kept."""

    encoder: nn.Module | None
    """On ``device``; None gives the raw pixels."""
    preprocessing: Preprocessing
    device: torch.device
    batch_size: int
    """Images in one forward pass."""
    num_threads: int
    """Of DALI."""
    encoder_key: str = ""
    """Equal keys, equal encoders; the cache goes by it."""
    cache: FeatureCache | None = None
    """None keeps nothing."""
    on_image: OnImage | None = None
    """Called with how many images are done, and of how many."""

    def __post_init__(self) -> None:
        assert self.cache is None or self.encoder_key, "a cache without a key would give one encoder another's features"

    def features(self, images: ImageSet) -> Features:
        """Of all images, in order; those of the cache are mapped from its file.

        Raises Mistake for features that are NaN or infinite, for an image that cannot be decoded, and where the
        cache has no room; OSError.
        """
        return self._without_targets(images).with_targets(images.values, images.attributes)

    def corrupted(self, corruption: Corruption) -> "FeatureMaker":
        """The same, of images under this corruption."""
        return replace(self, preprocessing=replace(self.preprocessing, corruption=corruption))

    def _without_targets(self, images: ImageSet) -> Features:
        if self.cache is None:
            return extract_features(self.encoder, self._image_batches(images), device=self.device)
        key = self._key(images, self.cache)
        x_ND = self.cache.find(key)
        if x_ND is None:
            x_ND = self._kept(images, key, self.cache)
        else:
            _log.info("%s: features from the cache", self._named(images))
        return Features(x_ND=x_ND, labels_N=torch.from_numpy(images.labels.copy()))

    def _kept(self, images: ImageSet, key: dict[str, Any], cache: FeatureCache) -> Tensor:
        batches = feature_batches(self.encoder, self._image_batches(images), device=self.device)
        x_ND = cache.keep(key, (z_bD for z_bD, _ in batches), len(images))
        size = x_ND.numel() * x_ND.element_size() / 2**20
        _log.info("%s: features computed and kept (%.1f MiB in %s)", self._named(images), size, cache.folder)
        return x_ND

    def _named(self, images: ImageSet) -> str:
        corruption = self.preprocessing.corruption
        return f"{len(images)} images" + (f" under {corruption.describe()}" if corruption else "")

    def _key(self, images: ImageSet, cache: FeatureCache) -> dict[str, Any]:
        """All that the features depend on. The kind of device counts, since it decides their last bits."""
        return {
            "encoder": self.encoder_key,
            "images": content_digest(images, cache.image_digests),
            "preprocessing": self.preprocessing.record(),
            "device": self.device.type,
        }

    def _image_batches(self, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
        """[b, 3, h, w] and labels [b]."""
        setting, done = self.preprocessing, 0
        batches = EvaluationImages(
            images, resize=setting.resize, crop=setting.crop, mean=setting.mean, std=setting.std,
            interpolation=setting.interpolation, corruption=setting.corruption, batch_size=self.batch_size,
            device=self.device, num_threads=self.num_threads,
        )  # fmt: skip
        for pixels, labels_b in batches:
            yield pixels, labels_b
            done += len(labels_b)
            if self.on_image is not None:
                self.on_image(done, len(images))
