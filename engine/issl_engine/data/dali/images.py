"""From an image set to decoded pixels in a DALI graph, and the naming of images that cannot be decoded."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image

from issl_engine.data.sources.base import ImageSet
from issl_engine.data.sources.changed_files import changed_files


def image_inputs(images: ImageSet, ids: NDArray[np.int64]) -> Any:
    """File names as bytes, or pixels, of the batch."""
    if images.paths is not None:
        return [np.frombuffer(images.paths[i].encode(), dtype=np.uint8) for i in ids]
    assert images.pixels is not None
    return np.ascontiguousarray(images.pixels[ids])


def num_channels(images: ImageSet) -> int:
    return 3 if images.pixels is None else images.pixels.shape[-1]


def layout(images: ImageSet) -> str:
    """Of what is fed: names of files have none."""
    return "" if images.paths is not None else "HWC"


def _read(paths: Any) -> Any:
    """The bytes of files. DALI's stubs do not know fn.io."""
    return fn.io.file.read(paths)  # type: ignore[attr-defined]


def decode(images: ImageSet, source: Any, device: torch.device) -> Any:
    """Pixels [H, W, C] on the device. EXIF orientation is applied, as it is in the image set's sizes."""
    on_gpu = device.type == "cuda"
    if images.paths is None:
        return source.gpu() if on_gpu else source
    return fn.decoders.image(
        _read(source), device="mixed" if on_gpu else "cpu", output_type=types.DALIImageType.RGB,
        adjust_orientation=True,
    )  # fmt: skip


def undecodable(images: ImageSet, batches: list[NDArray[np.int64]], error: RuntimeError) -> Exception:
    """Names the files that broke one of these batches, since DALI names none; else ``error`` itself."""
    if images.paths is None:
        return error
    indices = list(dict.fromkeys(i for batch in batches for i in batch.tolist()))
    if changed := changed_files(images, indices):
        return ValueError(
            f"{'; '.join(changed[:5])}: the folder changed during the run; put the file back as it was, then run the "
            "same command again"
        )
    paths = [images.paths[i] for i in indices]
    broken = [f"{path} ({reason})" for path in paths if (reason := _refused_by_pillow(path))]
    if not broken:
        broken = [f"{path} (DALI cannot read this kind of image)" for path in paths if _refused_by_dali(path)]
    if not broken:
        return error
    return ValueError(
        f"{'; '.join(broken[:5])}: the image cannot be decoded; remove or mend the file, then run the same "
        "command again"
    )


def _refused_by_pillow(path: str) -> str | None:
    """Why, or None."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as reason:
        return str(reason).replace(f" file {path!r}", "")
    return None


def _refused_by_dali(path: str) -> bool:
    name = [np.frombuffer(path.encode(), dtype=np.uint8)]
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = _read(fn.external_source(source=lambda: name, batch=True))
        pipeline.set_outputs(fn.decoders.image(encoded, output_type=types.DALIImageType.RGB))
    try:
        pipeline.run()
    except RuntimeError:
        return True
    return False
