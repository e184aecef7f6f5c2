"""Images of unusual kinds: each is decoded as viewers show it, or named with a reason when its source is scanned."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from PIL import Image

from issl_engine.loading import EvaluationImages, TrainingViews
from issl_engine.loading.images import ImageInputs
from issl_engine.loading.pipeline import build_pipeline, run_pipeline
from issl_engine.sources.base import ImageSet
from issl_engine.sources.formats.image_sizes import read_size
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.images.picture import open_image
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.preprocessing import Preprocessing

H, W = 40, 60
Pixels = NDArray[np.uint8]


def pattern(channels: int = 3, height: int = H, width: int = W) -> Pixels:
    """Smooth and different in every channel, so that JPEG keeps it and no mix-up goes unseen."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 100 * np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    """Of a copy: Pillow leaves an encoder's state on the image."""
    stream = io.BytesIO()
    image.copy().save(stream, kind, **settings)  # type: ignore[arg-type]
    return stream.getvalue()


RGB = Image.fromarray(pattern())
GREY = RGB.convert("L")
TRANSPARENT = Image.fromarray(np.dstack([pattern(), np.tile(np.arange(W, dtype=np.uint8) * 4, (H, 1))]))
OTHER = Image.fromarray(255 - pattern())
PALETTE = RGB.quantize(64)
SIXTEEN = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 27
"""Most of it above 255, and much of it not: cutting off would show, and so would dropping the lower byte."""


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_16_bits(values: NDArray[np.uint16], colour_type: int) -> bytes:
    """Pillow writes no colour PNG of 16 bits."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def three(grey: NDArray[np.generic]) -> Pixels:
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


RIGHT: dict[str, tuple[bytes, Pixels | None]] = {
    "cmyk.jpg": (saved(RGB.convert("CMYK"), "JPEG", quality=95), None),
    "grey.jpg": (saved(GREY, "JPEG", quality=95), None),
    "progressive.jpg": (saved(RGB, "JPEG", progressive=True), None),
    "stereo.jpg": (saved(RGB, "MPO", save_all=True, append_images=[OTHER.copy()]), None),
    "jpeg2000.jp2": (saved(RGB, "JPEG2000"), pattern()),
    "grey.png": (saved(GREY, "PNG"), three(np.asarray(GREY))),
    "black and white.png": (saved(GREY.convert("1"), "PNG"), three(255 * np.asarray(GREY.convert("1")))),
    "grey 16 bit.png": (saved(Image.fromarray(SIXTEEN), "PNG"), three(np.rint(SIXTEEN / 257))),
    "colour 16 bit.png": (png_of_16_bits(pattern().astype(np.uint16) * 257, 2), pattern()),
    "palette.png": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "palette with a transparent colour.png": (
        saved(PALETTE, "PNG", transparency=3),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "palette with transparency.png": (
        saved(PALETTE, "PNG", transparency=bytes(range(64))),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "transparent.png": (saved(TRANSPARENT, "PNG"), pattern()),
    "transparent grey.png": (saved(TRANSPARENT.convert("LA"), "PNG"), three(np.asarray(TRANSPARENT.convert("L")))),
    "animated.png": (saved(RGB, "PNG", save_all=True, append_images=[OTHER.copy()]), pattern()),
    "animated.webp": (saved(RGB, "WEBP", save_all=True, append_images=[OTHER.copy()], lossless=True), pattern()),
    "transparent.webp": (saved(TRANSPARENT, "WEBP", lossless=True, exact=True), pattern()),
    "transparent.tif": (saved(TRANSPARENT, "TIFF"), pattern()),
    "cmyk.tif": (saved(RGB.convert("CMYK"), "TIFF"), None),
    "grey 16 bit.tif": (saved(Image.fromarray(SIXTEEN), "TIFF"), three(np.rint(SIXTEEN / 257))),
    "pages.tif": (saved(RGB, "TIFF", save_all=True, append_images=[OTHER.copy()]), pattern()),
    "palette.bmp": (saved(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB"))),
    "one pixel.png": (saved(RGB.resize((1, 1)), "PNG"), np.asarray(RGB.resize((1, 1)))),
    "one pixel.jpg": (saved(RGB.resize((1, 1)), "JPEG"), None),
    "long.png": (saved(Image.fromarray(pattern(3, 20, 20_000)), "PNG"), pattern(3, 20, 20_000)),
    **{
        f"turned {orientation}.{suffix}": (saved(RGB, kind, exif=turned(orientation)), None)
        for orientation in range(1, 9)
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"))
    },
}
"""Name → file, and its pixels where the format keeps them."""


def webp_with_odd_part() -> bytes:
    """A lossless WebP whose pixels take an odd number of bytes, followed by EXIF data."""
    for seed in range(100):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        content = saved(Image.fromarray(pixels), "WEBP", lossless=True, exif=turned(6))
        if int.from_bytes(content[34:38], "little") % 2:
            return content
    raise AssertionError("no such image found")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def tiff(values: NDArray[np.generic], photometric: int, extra: tuple[tuple[int, int], ...] = ()) -> bytes:
    """A TIFF of one strip; Pillow does not write all kinds."""
    samples, bits = values.shape[2] if values.ndim == 3 else 1, 8 * values.itemsize
    fields = {256: W, 257: H, 258: bits, 259: 1, 262: photometric, 273: 0, 277: samples, 278: H, 279: values.nbytes}
    fields |= dict(extra)
    shorts_at = 8 + 2 + 12 * len(fields) + 4
    entries = b""
    for tag, value in sorted(fields.items()):
        if tag == 258 and samples > 2:
            entries += struct.pack("<HHII", tag, 3, samples, shorts_at)
        elif tag == 258 and samples == 2:
            entries += struct.pack("<HHIHH", tag, 3, 2, bits, bits)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, shorts_at + 2 * samples if tag == 273 else value)
    shorts = struct.pack(f"<{samples}H", *[bits] * samples)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + shorts + values.tobytes()


PREMULTIPLIED = tiff(np.dstack([pattern() // 2, np.full((H, W), 128, np.uint8)]), 2, ((338, 1),))
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"<html>", "not an image"),
    "cut.jpg": (saved(RGB, "JPEG", quality=95)[:-200], "truncated"),
    "cut.png": (cut(saved(RGB, "PNG")), "truncated"),
    "without end.png": (saved(RGB, "PNG")[:-12], "truncated"),
    "cut.bmp": (cut(saved(RGB, "BMP")), "truncated"),
    "cut.tif": (cut(saved(RGB, "TIFF")), "truncated"),
    "cut.webp": (cut(saved(RGB, "WEBP")), ""),
    "damaged.png": (saved(RGB, "PNG").replace(b"IDAT", b"IDAX"), ""),
    "picture.gif": (saved(RGB, "GIF"), "GIF, which is not decoded here; convert it"),
    "animated.gif": (saved(RGB, "GIF", save_all=True, append_images=[OTHER.copy()]), "GIF, which is not decoded here"),
    "named otherwise.jpg": (saved(RGB, "GIF"), "GIF, which is not decoded here"),
    "turned.webp": (webp_with_odd_part(), "WebP with EXIF data behind a part of odd length"),
    "black and white.tif": (saved(GREY.convert("1"), "TIFF"), "TIFF of an unusual kind (1, 1 bits)"),
    "float.tif": (saved(GREY.convert("F"), "TIFF"), "TIFF of an unusual kind (F, 32 bits)"),
    "32 bit.tif": (saved(GREY.convert("I"), "TIFF"), "TIFF of an unusual kind (I, 32 bits)"),
    "lab.tif": (saved(RGB.convert("LAB"), "TIFF"), "TIFF of an unusual kind (LAB"),
    "transparent grey.tif": (tiff(pattern(2), 1, ((338, 2),)), "TIFF of an unusual kind (LA"),
    "premultiplied.tif": (PREMULTIPLIED, "TIFF of an unusual kind (RGBA"),
    "negative 16 bit.tif": (tiff(SIXTEEN, 0), "TIFF of an unusual kind (I;16"),
}
"""Name → file, and a part of the reason."""


def written(folder: Path, name: str, content: bytes) -> ImageSet:
    """The image, alone, with the size that scanning finds."""
    path = folder / name
    path.write_bytes(content)
    size = read_size(str(path), len(content))
    assert not isinstance(size, str), size
    return ImageSet(labels=np.zeros(1, np.int64), sizes_HW=np.array([size], np.int32), paths=(str(path),))


def decoded(images: ImageSet, device: torch.device) -> Pixels:
    """What the loaders' decoder gives."""

    inputs = ImageInputs(images)

    def graph() -> tuple[object, ...]:
        source = fn.external_source(source=lambda: inputs.batch(np.zeros(1, np.int64)), batch=True)
        return (inputs.decode(source, device),)

    pipeline = build_pipeline(graph, batch_size=1, num_threads=1, device=device, prefetch=1)
    (output,) = run_pipeline(pipeline, device)
    return np.asarray((output.as_cpu() if device.type == "cuda" else output)[0])


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_is_decoded_as_viewers_show_it(name: str, device: str, tmp_path: Path) -> None:
    content, expected = RIGHT[name]
    images = written(tmp_path, name, content)
    pixels = decoded(images, torch.device(device)).astype(int)
    shown = np.asarray(open_image(images, 0)).astype(int)
    assert pixels.shape == shown.shape == (*images.sizes_HW[0], 3)
    tolerance = 1 if device == "cpu" else 8  # a GPU decodes JPEG with another inverse transform
    assert abs(pixels - shown).max() <= tolerance
    if expected is not None:
        assert abs(pixels - expected).max() <= tolerance
        assert abs(shown - expected).max() <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_named_when_scanned(name: str, tmp_path: Path) -> None:
    """And not when training comes to it. In a folder it is counted, whatever its suffix."""
    content, reason = REFUSED[name]
    for split, count in (("train", 2), ("val", 1)):
        (tmp_path / split / "cat").mkdir(parents=True)
        for index in range(count):
            colour = Image.new("RGB", (30, 20), (index, 0, 9 * count))
            colour.save(tmp_path / split / "cat" / f"{index}.png")
    (tmp_path / "train" / "cat" / name).write_bytes(content)
    dataset = ImageFolderConfig(folder=tmp_path, max_corrupt_files=1).load()
    (skipped,) = dataset.skipped
    assert skipped.path.name == name
    assert reason in skipped.reason
    assert skipped.reason
    assert len(dataset.train) == 2


@pytest.mark.parametrize("name", [name for name in REFUSED if "webp" in name or "tif" in name or "gif" in name])
def test_refused_kinds_would_be_decoded_wrongly_or_not_at_all(name: str, tmp_path: Path) -> None:
    """If this fails, DALI has learnt a kind, and it need not be refused any more."""
    content, _ = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    images = ImageSet(
        labels=np.zeros(1, np.int64), sizes_HW=np.full((1, 2), 1, np.int32), paths=(str(tmp_path / name),)
    )
    try:
        pixels = decoded(images, torch.device("cpu"))
        shown = np.asarray(open_image(images, 0))
    except (RuntimeError, OSError, ValueError):
        return
    if "16" in name:
        shown = 255 - three(np.rint(SIXTEEN / 257))
    assert abs(pixels.astype(int) - shown).max() > 8


EVERYTHING = Augmentation(greyscale=0.5, blur=Blur(probability=1), solarise=Solarise(probability=1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 20_000), (20_000, 20), (1, 300)])
def test_extreme_shapes_go_through_all_crops(height: int, width: int, interpolation: str, tmp_path: Path) -> None:
    Image.new("RGB", (width, height), (200, 30, 90)).save(tmp_path / "0.png")
    path = str(tmp_path / "0.png")
    assert read_size(path, os.path.getsize(path)) == (height, width)
    images = ImageSet(
        labels=np.zeros(2, np.int64), sizes_HW=np.array([(height, width)] * 2, np.int32), paths=(path, path)
    )
    plain = Augmentation(flip=0.5, colour_jitter=None, greyscale=0)
    groups = (CropGroup(count=2, size=32, augmentation=plain), CropGroup(count=2, size=16, area=(0.01, 0.1)))
    views = ViewsConfig(
        groups=groups, augmentation=EVERYTHING, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1)
    )
    device = torch.device("cpu")
    loader = TrainingViews(
        images, views, batch_size=2, rank=0, world_size=1, seed=0, device=device, num_threads=1, start_batch=0
    )
    colour = torch.tensor([200, 30, 90])[:, None, None] / 255
    for batch in islice(loader, 5):
        assert (batch.crops[0] - colour).abs().max() < 0.01
        assert batch.crops[1].isfinite().all()
    loader.close()
    evaluation = EvaluationImages(
        images,
        Preprocessing(resize=32, crop=32, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation),
        batch_size=2,
        device=device,
        num_threads=1,
    )
    ((crops, _),) = list(evaluation)
    assert (crops - colour).abs().max() < 0.01


@pytest.mark.parametrize("make", [lambda: RGB, lambda: GREY], ids=["colour", "grey"])
def test_pixels_in_memory_are_shown_as_they_are(make: Callable[[], Image.Image]) -> None:
    pixels = np.asarray(make()).reshape(1, H, W, -1)
    images = ImageSet(labels=np.zeros(1, np.int64), sizes_HW=np.array([(H, W)], np.int32), pixels=pixels)
    assert (np.asarray(open_image(images, 0)) == np.broadcast_to(pixels[0], (H, W, 3))).all()


def test_a_small_look_at_a_jpeg_keeps_the_sides_asked_for(tmp_path: Path) -> None:
    images = written(tmp_path, "x.jpg", saved(Image.fromarray(pattern(3, 300, 400)), "JPEG"))
    small = open_image(images, 0, at_least=60)
    assert 60 <= min(small.size) < 120
    assert small.size[0] * 3 == small.size[1] * 4
