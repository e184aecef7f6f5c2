"""From images to features: taken from the cache, or computed and kept there batch by batch.

Letters: b images of a batch, N images, h height, w width.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from issl_engine.loading import EvaluationImages
from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.features.extract import RAW_PIXELS_SIDE, extract_features, feature_batches
from issl_engine.probing.features.features import Features
from issl_engine.sources.base import ImageSet
from issl_engine.sources.images.digests import OnImage, content_digest
from issl_engine.views.corruptions import Corruption
from issl_engine.views.preprocessing import Preprocessing

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
    corruption: Corruption | None = None
    """Of the crop, before it is normalised."""
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
        return replace(self, corruption=corruption)

    def describe(self) -> str:
        """How images become features, in words."""
        text = self.preprocessing.describe()
        if self.encoder is None:
            text += f", raw pixels averaged down to {min(self.preprocessing.crop, RAW_PIXELS_SIDE)} px a side"
        if self.corruption is not None:
            text += f"; judged under {self.corruption.describe()}"
        return text

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
        return f"{len(images)} images" + (f" under {self.corruption.describe()}" if self.corruption else "")

    def _key(self, images: ImageSet, cache: FeatureCache) -> dict[str, Any]:
        """All that the features depend on. The kind of device counts, since it decides their last bits."""
        return {
            "encoder": self.encoder_key,
            "images": content_digest(images, cache.image_digests),
            "preprocessing": self.preprocessing.as_json()
            | {"corruption": None if self.corruption is None else asdict(self.corruption)},
            "device": self.device.type,
        }

    def _image_batches(self, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
        """[b, 3, h, w] and labels [b]."""
        done = 0
        batches = EvaluationImages(
            images,
            self.preprocessing,
            corruption=self.corruption,
            batch_size=self.batch_size,
            device=self.device,
            num_threads=self.num_threads,
        )
        for pixels, labels_b in batches:
            yield pixels, labels_b
            done += len(labels_b)
            if self.on_image is not None:
                self.on_image(done, len(images))
