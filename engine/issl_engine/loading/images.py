"""From an image set to decoded pixels in a DALI graph, and the naming of images that cannot be decoded."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from PIL import Image, UnidentifiedImageError

from issl_engine.loading.encoded_cache import EncodedCache
from issl_engine.loading.pipeline import build_pipeline, run_pipeline
from issl_engine.mistakes import Mistake
from issl_engine.sources.base import ImageSet
from issl_engine.sources.images.changed_files import changed_files


class ImageInputs:
    """How a graph gets the images of a batch: file names, which DALI's own threads read; encoded images; or pixels.

    With ``cache_bytes`` encoded images are read here and kept in memory up to so many bytes.
    """

    def __init__(self, images: ImageSet, cache_bytes: int = 0) -> None:
        self.images = images
        self.cache = EncodedCache(images, cache_bytes) if cache_bytes and images.encoded else None
        self._by_name = images.paths is not None and self.cache is None

    @property
    def layout(self) -> str:
        """Of what is fed: only pixels have one."""
        return "" if self.images.encoded else "HWC"

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """What the graph is fed for these images. Raises OSError for a file that cannot be read."""
        images = self.images
        if images.pixels is not None:
            return np.ascontiguousarray(images.pixels[ids])
        if self._by_name and images.paths is not None:
            return [np.frombuffer(images.paths[i].encode(), dtype=np.uint8) for i in ids]
        if self.cache is not None:
            contents = [self.cache.read(i) for i in ids]
        else:
            assert images.ranges is not None
            contents = images.ranges.read_many(ids)
        return [np.frombuffer(content, dtype=np.uint8) for content in contents]

    def read(self, source: Any) -> Any:
        """The encoded images, or the pixels."""
        return _read(source) if self._by_name else source

    def decode(self, source: Any, device: torch.device) -> Any:
        """Pixels [H, W, C] on the device. EXIF orientation is applied, as it is in the image set's sizes."""
        on_gpu = device.type == "cuda"
        if not self.images.encoded:
            return source.gpu() if on_gpu else source
        encoded = self.read(source)
        if not on_gpu:
            return fn.decoders.image(encoded, device="cpu", output_type=types.DALIImageType.RGB)
        height, width = largest_size(self.images)
        return fn.decoders.image(
            encoded, device="mixed", output_type=types.DALIImageType.RGB, preallocate_height_hint=height,
            preallocate_width_hint=width, device_memory_padding=3 * height * width,
            host_memory_padding=3 * height * width,
        )  # fmt: skip


def largest_size(images: ImageSet) -> tuple[int, int]:
    """(height, width) of the image with most pixels: the decoder's memory is made for it from the start."""
    height, width = images.sizes_HW[images.sizes_HW.astype(np.int64).prod(axis=1).argmax()]
    return int(height), int(width)


def num_channels(images: ImageSet) -> int:
    return 3 if images.pixels is None else images.pixels.shape[-1]


def _read(paths: Any) -> Any:
    """The bytes of files. DALI's stubs do not know fn.io."""
    return fn.io.file.read(paths)  # type: ignore[attr-defined]


def undecodable(images: ImageSet, batches: list[NDArray[np.int64]], error: RuntimeError | OSError) -> Exception:
    """Names the files that broke one of these batches, since DALI names none; else ``error`` itself."""
    if not images.encoded:
        return error
    indices = list(dict.fromkeys(i for batch in batches for i in batch.tolist()))
    if changed := changed_files(images, indices):
        return Mistake(
            f"{'; '.join(changed[:5])}: the folder changed during the run; put the file back as it was, then run the "
            "same command again"
        )
    names = {i: images.describe(i) for i in indices}
    broken = [f"{name} ({reason})" for i, name in names.items() if (reason := _refused_by_pillow(images, i))]
    if not broken:
        broken = [
            f"{name} (DALI cannot read this kind of image)"
            for i, name in names.items()
            if _refused_by_dali(images.stored_bytes(i))
        ]
    if not broken:
        return error
    return Mistake(
        f"{'; '.join(broken[:5])}: the image cannot be decoded; remove or mend the file, then run the same "
        "command again"
    )


def _refused_by_pillow(images: ImageSet, index: int) -> str | None:
    """Why, or None."""
    try:
        with Image.open(io.BytesIO(images.stored_bytes(index))) as image:
            image.load()
    except UnidentifiedImageError:
        return "cannot identify image file"
    except (OSError, SyntaxError, ValueError) as reason:
        return str(reason)
    return None


def _refused_by_dali(content: bytes) -> bool:
    batch = [np.frombuffer(content, dtype=np.uint8)]

    def graph() -> tuple[Any, ...]:
        encoded = fn.external_source(source=lambda: batch, batch=True)
        return (fn.decoders.image(encoded, output_type=types.DALIImageType.RGB),)

    cpu = torch.device("cpu")
    try:
        run_pipeline(build_pipeline(graph, batch_size=1, num_threads=1, device=cpu, prefetch=1), cpu)
    except RuntimeError:
        return True
    return False
