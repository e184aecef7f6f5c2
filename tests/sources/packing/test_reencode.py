"""data pack --max-side and --background: what is encoded again, and how."""

import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from issl_engine.sources.base import Dataset, SourceError
from issl_engine.sources.image_folder import ImageFolderConfig
from issl_engine.sources.packing.pack import PackSettings, pack_dataset
from issl_engine.sources.packing.reencode import Reencoding, Smaller

from .packed_folders import SMALL, listed, save


def test_larger_images_are_made_smaller_upright_and_others_copied(folder: Path, out: Path) -> None:
    small = folder / "val" / "dog" / "00.jpg"
    save(small, 99, (90, 180))
    dataset = ImageFolderConfig(folder=folder).load()
    reencoding = Reencoding(smaller=Smaller(shorter_side_px=100, quality=80))
    index = pack_dataset(dataset, out, replace(SMALL, reencoding=reencoding)).index
    assert index["reencoded"] == {"shorter_side_px": 100, "quality": 80, "images": 27}
    copied: set[bytes] = set()
    kinds: Counter[str | None] = Counter()
    for _, content, (_, height, width) in listed(out):
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (width, height)
            if min(height, width) >= 100:
                assert sorted((height, width)) == [100, 150]
                assert not image.getexif()
                kinds[image.format] += 1
            else:
                copied.add(content)
    assert copied == {small.read_bytes()}
    assert kinds == {"JPEG": 23, "PNG": 4}


def test_transparent_images_are_drawn_on_the_background(folder: Path, tmp_path: Path) -> None:
    """Black ink on transparency, in three kinds of file; without a background all of it would be black."""
    ink = np.zeros((40, 60, 4), dtype=np.uint8)
    ink[10:20, :, 3] = 255
    picture = Image.fromarray(ink)
    shutil.rmtree(folder / "train" / "cat")
    (folder / "train" / "cat").mkdir()
    picture.save(folder / "train" / "cat" / "rgba.png")
    picture.convert("LA").save(folder / "train" / "cat" / "la.png")
    picture.save(folder / "train" / "cat" / "rgba.webp", lossless=True)
    palette = Image.fromarray((ink[..., 3] > 0).astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(folder / "train" / "cat" / "palette.png", transparency=0)
    settings = replace(SMALL, reencoding=Reencoding(background=(255, 128, 0)))
    index = pack_dataset(ImageFolderConfig(folder=folder).load(), tmp_path / "out", settings).index
    assert index["reencoded"] == {"background": [255, 128, 0], "images": 4}
    expected = np.where(ink[..., 3:] > 0, 0, np.array([255, 128, 0], dtype=np.uint8))
    found = [content for _, content, (_, *size) in listed(tmp_path / "out") if size == [40, 60]]
    assert len(found) == 4
    for content in found:
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(image), expected)


def test_a_folder_packed_before_there_were_backgrounds_is_gone_on_with(dataset: Dataset, out: Path) -> None:
    packed = pack_dataset(dataset, out, SMALL)
    state = next(path for path in out.iterdir() if "background" in path.read_text(errors="replace"))
    content = json.loads(state.read_text())
    del content["settings"]["background"]
    state.write_text(json.dumps(content))
    assert pack_dataset(dataset, out, SMALL) == packed
    with pytest.raises(SourceError, match=r"background none there and \[255, 255, 255\] here"):
        pack_dataset(dataset, out, replace(SMALL, reencoding=Reencoding(background=(255, 255, 255))))


def test_a_smaller_jpeg_is_the_large_one_antialiased(folder: Path, tmp_path: Path) -> None:
    """Patches of 5 px, which leaving out pixels would turn into noise."""
    patches = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    large = Image.fromarray(patches).resize((600, 400), Image.Resampling.NEAREST)
    large.save(folder / "val" / "cat" / "00.jpg", quality=95, subsampling="4:4:4")
    dataset = ImageFolderConfig(folder=folder).load()
    pack_dataset(
        dataset, tmp_path / "out", PackSettings(reencoding=Reencoding(smaller=Smaller(shorter_side_px=100, quality=95)))
    )
    content = next(content for split, content, _ in listed(tmp_path / "out") if split == "test")
    expected = large.convert("L").resize((150, 100), Image.Resampling.LANCZOS)
    found = Image.open(io.BytesIO(content)).convert("L")
    assert np.abs(np.asarray(found, dtype=np.float64) - np.asarray(expected)).mean() < 4


def test_a_jpeg_that_cannot_be_decoded_is_left_out_when_made_smaller(
    dataset: Dataset, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = folder / "train" / "dog" / "02.jpg"
    content = bytearray(place.read_bytes())
    tables = content.index(b"\xff\xc4")  # of the Huffman codes: header and end mark stay, so the scan finds nothing
    content[tables + 5 : tables + 21] = b"\xff" * 16
    place.write_bytes(content)
    settings = PackSettings(shard_mib=1, reencoding=Reencoding(smaller=Smaller(shorter_side_px=100, quality=95)))
    packed = pack_dataset(dataset, tmp_path / "out", settings)
    assert [Path(one.name).name for one in packed.left_out] == ["02.jpg"]
    assert sum(shard["samples"] for shard in packed.index["shards"]) == 27
    assert "left out 1 images that cannot be decoded" in caplog.text
    again = pack_dataset(dataset, tmp_path / "out", settings)
    assert again == packed
