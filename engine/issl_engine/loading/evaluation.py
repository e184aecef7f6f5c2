"""All images of a split once, resized and cut at the centre.

Letters: b images of a batch, n of the split.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor

from issl_engine.loading.augmentations.crop import INTERPOLATION
from issl_engine.loading.corruption import corrupted
from issl_engine.loading.expected_size import check_sizes, expected_sizes, of_expected_size
from issl_engine.loading.images import ImageInputs, num_channels, undecodable
from issl_engine.loading.normalisation import normalise
from issl_engine.loading.pipeline import build_pipeline, named_inputs, run_pipeline, to_torch
from issl_engine.mistakes import Mistake
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.base import Floats
from issl_engine.views.corruptions import Corruption, CorruptionInputs
from issl_engine.views.preprocessing import Preprocessing

Feed = Callable[[], dict[str, Any]]
PREFETCHED = 2
"""Batches that DALI makes ahead."""


class EvaluationImages:
    """All images once, in order: (float [b, 3, crop, crop] normalised, int64 labels [b]).

    Sides and centre of ``preprocessing`` are rounded as torchvision's Resize and CenterCrop do; ``corruption`` then
    spoils the crop. The last batch may be short. Each iteration is a fresh pass. Raises Mistake when the crop is larger
    than the resized side, and for an image that cannot be decoded.
    """

    def __init__(
        self, images: ImageSet, preprocessing: Preprocessing, *, batch_size: int, device: torch.device,
        num_threads: int, corruption: Corruption | None = None,
    ) -> None:  # fmt: skip
        resize, crop = preprocessing.resize, preprocessing.crop
        if crop > resize:
            raise Mistake(
                f"evaluation.crop: {crop} px is larger than evaluation.resize ({resize} px); make it smaller or equal"
            )
        self.images, self.batch_size, self.device = images, min(batch_size, len(images)), device
        self.num_threads = num_threads
        self._inputs = ImageInputs(images)
        self._resizes = bool((images.sizes_HW != resize).any())
        self._sides_HW, self._tops, self._lefts = _centre(images.sizes_HW, resize, crop)
        self._corruption_inputs = CorruptionInputs(corruption, crop, num_channels(images))
        self._graph: Callable[[Feed], tuple[Any, ...]] = lambda feed: _evaluation_graph(
            self._inputs, self._corruption_inputs, self._resizes, preprocessing, corruption, feed, device
        )  # fmt: skip

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ids = np.arange(len(self.images), dtype=np.int64)
        # Every DALI batch is full: the last one is filled up with the last image, and cut again below.
        padded = np.pad(ids, (0, len(self) * self.batch_size - len(ids)), mode="edge").reshape(len(self), -1)
        rows = iter(padded)

        def feed() -> dict[str, Any]:
            chosen = next(rows, padded[-1])
            sides = {"sides_HW": self._sides_HW[chosen]} if self._resizes else {}
            return {
                "images": self._inputs.batch(chosen),
                "expected_sizes": expected_sizes(self.images, chosen),
                "top": self._tops[chosen],
                "left": self._lefts[chosen],
                **sides,
                **self._corruption_inputs.batch(chosen),
            }

        pipeline = build_pipeline(
            lambda: self._graph(feed),
            batch_size=self.batch_size, num_threads=self.num_threads, device=self.device,
            prefetch=PREFETCHED,
        )  # fmt: skip
        for index, batch in enumerate(padded):
            try:
                output, shapes = run_pipeline(pipeline, self.device)
                check_sizes(self.images, batch, shapes)
            except (RuntimeError, OSError) as error:
                raise undecodable(self.images, list(padded[index : index + PREFETCHED + 1]), error) from None
            kept = min(self.batch_size, len(ids) - index * self.batch_size)
            yield to_torch(output)[:kept].clone(), torch.from_numpy(self.images.labels[batch[:kept]])


def _centre(sizes_HW: NDArray[np.int32], resize: int, crop: int) -> tuple[Floats, Floats, Floats]:
    """Sides after resizing [n, 2]; top and left of the centre crop [n], as shares of the room that there is."""
    sides = resize * sizes_HW.astype(np.int64) // sizes_HW.min(axis=1, keepdims=True)
    room = (sides - crop).T
    top, left = (np.rint(room / 2) / np.maximum(room, 1)).astype(np.float32)
    return sides.astype(np.float32), top, left


def _evaluation_graph(
    images: ImageInputs, corruption_inputs: CorruptionInputs, resizes: bool, preprocessing: Preprocessing,
    corruption: Corruption | None, feed: Feed, device: torch.device,
) -> tuple[Any, ...]:  # fmt: skip
    crop, mean, std = preprocessing.crop, preprocessing.mean, preprocessing.std
    layouts = {"images": images.layout, "expected_sizes": "", "top": "", "left": ""}
    layouts |= {"sides_HW": ""} if resizes else {}
    nodes = named_inputs(feed, layouts | corruption_inputs.layouts)
    view, shapes = of_expected_size(images.decode(nodes["images"], device), nodes["expected_sizes"])
    if resizes:
        filter = INTERPOLATION[preprocessing.interpolation]
        view = fn.resize(view, size=nodes["sides_HW"], antialias=True, interp_type=filter)
    channels, sides = num_channels(images.images), (crop, crop)
    if corruption is None:
        # Cutting and normalising at once spares a copy.
        view = normalise(view, mean, std, channels, crop=sides, crop_pos_y=nodes["top"], crop_pos_x=nodes["left"])
        return view, shapes
    view = fn.crop(view, crop=sides, crop_pos_y=nodes["top"], crop_pos_x=nodes["left"])
    spoilt = {name: nodes[name] for name in corruption_inputs.layouts}
    view = corrupted(view, corruption, crop, channels, device.type == "cuda", **spoilt)
    return normalise(view, mean, std, channels), shapes
