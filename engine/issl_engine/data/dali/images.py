"""From an image set to decoded pixels in a DALI graph, and the naming of images that cannot be decoded."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image, UnidentifiedImageError

from issl_engine.data.sources.base import ImageSet
from issl_engine.data.sources.changed_files import changed_files


def image_inputs(images: ImageSet, ids: NDArray[np.int64]) -> Any:
    """Of the batch: file names as bytes, encoded images, or pixels."""
    if images.paths is not None:
        return [np.frombuffer(images.paths[i].encode(), dtype=np.uint8) for i in ids]
    if images.ranges is not None:
        return [np.frombuffer(content, dtype=np.uint8) for content in images.ranges.read_many(ids)]
    assert images.pixels is not None
    return np.ascontiguousarray(images.pixels[ids])


def num_channels(images: ImageSet) -> int:
    return 3 if images.pixels is None else images.pixels.shape[-1]


def layout(images: ImageSet) -> str:
    """Of what is fed: only pixels have one."""
    return "" if images.encoded else "HWC"


def _read(paths: Any) -> Any:
    """The bytes of files. DALI's stubs do not know fn.io."""
    return fn.io.file.read(paths)  # type: ignore[attr-defined]


def decode(images: ImageSet, source: Any, device: torch.device) -> Any:
    """Pixels [H, W, C] on the device. EXIF orientation is applied, as it is in the image set's sizes."""
    on_gpu = device.type == "cuda"
    if not images.encoded:
        return source.gpu() if on_gpu else source
    encoded = _read(source) if images.paths is not None else source
    return fn.decoders.image(
        encoded, device="mixed" if on_gpu else "cpu", output_type=types.DALIImageType.RGB, adjust_orientation=True
    )


def undecodable(images: ImageSet, batches: list[NDArray[np.int64]], error: RuntimeError | OSError) -> Exception:
    """Names the files that broke one of these batches, since DALI names none; else ``error`` itself."""
    if not images.encoded:
        return error
    indices = list(dict.fromkeys(i for batch in batches for i in batch.tolist()))
    if changed := changed_files(images, indices):
        return ValueError(
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
    return ValueError(
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
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(source=lambda: batch, batch=True)
        pipeline.set_outputs(fn.decoders.image(encoded, output_type=types.DALIImageType.RGB))
    try:
        pipeline.run()
    except RuntimeError:
        return True
    return False
