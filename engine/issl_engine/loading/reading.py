"""The first stages of a loader alone, so that their cost can be measured apart from the others'."""

from typing import Any, Literal

import torch
from nvidia.dali import fn

from issl_engine.loading.images import ImageInputs
from issl_engine.loading.pipeline import build_pipeline, run_pipeline
from issl_engine.sources.base import ImageSet
from issl_engine.views.batch_order import BatchOrder

Stage = Literal["read", "decode"]


class ReadImages:
    """An endless iterator over batches that are read, or read and decoded, in the order of TrainingViews, and thrown
    away. Raises Mistake for a seed out of range, RuntimeError for an image that cannot be decoded."""

    def __init__(
        self, images: ImageSet, stage: Stage, *, batch_size: int, seed: int, device: torch.device, num_threads: int,
        prefetch_batches: int, cache_bytes: int = 0,
    ) -> None:  # fmt: skip
        self.device = device
        self._order = BatchOrder(len(images), batch_size=batch_size, rank=0, world_size=1, seed=seed)
        self._inputs = ImageInputs(images, cache_bytes)
        self._next_to_feed = 0
        self._pipeline: Any = build_pipeline(
            lambda: self._graph(stage), batch_size=batch_size, num_threads=num_threads, device=device,
            prefetch=prefetch_batches,
        )  # fmt: skip

    def __iter__(self) -> "ReadImages":
        return self

    def __next__(self) -> None:
        run_pipeline(self._pipeline, self.device)

    def close(self) -> None:
        """Frees DALI's threads and buffers."""
        self._pipeline = None

    def _graph(self, stage: Stage) -> tuple[Any]:
        source = fn.external_source(source=self._feed, batch=True, layout=self._inputs.layout)
        return (self._inputs.read(source) if stage == "read" else self._inputs.decode(source, self.device),)

    def _feed(self) -> Any:
        ids = self._order.ids(self._next_to_feed)
        self._next_to_feed += 1
        return self._inputs.batch(ids)
