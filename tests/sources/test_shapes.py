"""The embedded shapes: the same bytes for a seed, no image in both splits, a true table, whole folders or none."""

import csv
import hashlib
import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from issl_engine.sources import shapes
from issl_engine.sources.base import SourceError
from issl_engine.sources.drawing.draw import KINDS, TEXTURES, draw
from issl_engine.sources.shapes import ShapesConfig, make_shapes

SMALL: dict[str, Any] = {"num_train": 24, "num_test": 12, "num_classes": 4, "image_size": 32}

pytestmark = pytest.mark.usefixtures("own_cache")


def contents(folder: Path) -> dict[str, str]:
    """Every file → a digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "nuisances.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_shapes(tmp_path / name, ShapesConfig(**SMALL, seed=seed))
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[file] != c[file] for file in a)


def test_no_image_is_drawn_twice() -> None:
    dataset = ShapesConfig(**SMALL).load()
    assert dataset.train.paths is not None
    assert dataset.test.paths is not None
    digests = [hashlib.sha256(Path(p).read_bytes()).digest() for p in dataset.train.paths + dataset.test.paths]
    assert len(set(digests)) == 24 + 12


def test_a_longer_split_begins_with_the_images_of_a_shorter_one(tmp_path: Path) -> None:
    make_shapes(tmp_path / "short", ShapesConfig(**SMALL))
    make_shapes(tmp_path / "long", ShapesConfig(**(SMALL | {"num_train": 32})))
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    images = [name for name in short if name.endswith(".jpg")]
    assert len(images) == 36
    assert all(short[name] == long[name] for name in images)


def test_labels_sizes_and_files_agree() -> None:
    dataset = ShapesConfig(**SMALL).load()
    for images, count in ((dataset.train, 24), (dataset.test, 12)):
        assert images.paths is not None
        assert Counter(images.labels.tolist()) == dict.fromkeys(range(4), count // 4)
        assert images.labels.dtype == np.int64
        assert images.sizes_HW.dtype == np.int32
        for path, label, size in zip(images.paths, images.labels, images.sizes_HW):
            assert Path(path).parent.name == dataset.classes[label]
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (size[1], size[0]))


def test_the_table_has_a_line_for_every_file(tmp_path: Path) -> None:
    make_shapes(tmp_path / "made", ShapesConfig(**SMALL))
    rows = table(tmp_path / "made")
    files = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*.jpg")}
    assert {row["file"] for row in rows} == files
    assert len(rows) == len(files) == 36
    for row in rows:
        assert row["file"].startswith(f"{row['split']}/{row['class']}/")
        for column in ("x", "y", "radius", "rotation", "colour"):
            assert len(row[column].split()) == int(row["copies"])
        assert row["texture"] in TEXTURES


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"ring", "crescent"}))  # these two are hollow at their centre
def test_the_table_says_where_the_copies_are_and_in_which_colour(kind: str) -> None:
    """The last copy drawn is covered by no other: at its centre the image has its colour, apart from the noise."""
    seen = 0
    for seed in range(40):
        image, nuisances = draw(kind, 64, np.random.default_rng(seed))
        last = nuisances.copies[-1]
        if not (2 <= last.x < 62 and 2 <= last.y < 62) or nuisances.noise > 3:
            continue
        colour = [int(last.colour[i : i + 2], 16) for i in (1, 3, 5)]
        pixels = np.asarray(image, dtype=float)[int(last.y), int(last.x)]
        seen += 1
        if kind != "bowtie":  # its waist is narrower than a pixel and a half
            assert np.abs(pixels - colour).max() < 20
    assert seen >= 3


def test_nuisances_say_nothing_about_the_class() -> None:
    """The random stream is spent on the same draws whatever the kind, so all but the outline is identical."""
    drawn = {kind: draw(kind, 48, np.random.default_rng(5)) for kind in KINDS}
    assert len({str(nuisances) for _, nuisances in drawn.values()}) == 1
    assert len({image.tobytes() for image, _ in drawn.values()}) == len(KINDS)


def test_copies_are_turned_by_no_more_than_the_rotation() -> None:
    turns = []
    for seed in range(30):
        image, nuisances = draw("arrow", 64, np.random.default_rng(seed), rotation_degrees=45)
        free, others = draw("arrow", 64, np.random.default_rng(seed))
        turns += [copy.rotation for copy in nuisances.copies]
        assert [copy.rotation * 8 for copy in nuisances.copies] == pytest.approx([c.rotation for c in others.copies])
        assert image.tobytes() != free.tobytes()
    assert 0 <= min(turns) < 2
    assert 43 < max(turns) <= 45


def test_a_key_that_older_folders_do_not_name_changes_nothing_at_its_default(tmp_path: Path) -> None:
    make_shapes(tmp_path / "made", ShapesConfig(**SMALL))
    assert "rotation" not in json.loads((tmp_path / "made" / "shapes.json").read_text())
    make_shapes(tmp_path / "made", ShapesConfig(**SMALL, rotation=360))
    with pytest.raises(SourceError, match=r"rotation None instead of 30"):
        make_shapes(tmp_path / "made", ShapesConfig(**SMALL, rotation=30))


def test_copies_stand_out_from_the_background() -> None:
    for seed in range(50):
        _, nuisances = draw("disc", 64, np.random.default_rng(seed))
        for copy in nuisances.copies:
            brightness = np.mean([int(copy.colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
            assert abs(brightness - nuisances.background_value) > 0.3


def test_a_second_load_reads_what_the_first_one_made(own_cache: Path) -> None:
    first = ShapesConfig(**SMALL).load()
    (folder,) = own_cache.iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second = ShapesConfig(**SMALL).load()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert first.train.paths == second.train.paths
    assert (first.train.labels == second.train.labels).all()


def test_other_keys_take_another_folder_of_the_cache(own_cache: Path) -> None:
    for changed in ({}, {"seed": 1}, {"image_size": 48}, {"num_test": 16}, {"num_classes": 3}):
        ShapesConfig(**(SMALL | changed)).load()
    assert len(list(own_cache.iterdir())) == 5


def test_a_folder_made_with_other_keys_is_refused_and_named(tmp_path: Path) -> None:
    make_shapes(tmp_path / "made", ShapesConfig(**SMALL))
    with pytest.raises(SourceError, match=r"made with image_size 32 instead of 64, seed 0 instead of 7; make"):
        ShapesConfig(**(SMALL | {"image_size": 64, "seed": 7}), folder=tmp_path / "made").load()


def test_a_folder_with_missing_images_is_refused(tmp_path: Path) -> None:
    config = ShapesConfig(**SMALL, folder=tmp_path / "made")
    dataset = config.load()
    assert dataset.train.paths is not None
    Path(dataset.train.paths[3]).unlink()
    with pytest.raises(SourceError, match="23 images are left of the 24"):
        config.load()


def test_a_damaged_key_file_is_refused(tmp_path: Path) -> None:
    config = ShapesConfig(**SMALL, folder=tmp_path / "made")
    config.load()
    (tmp_path / "made" / "shapes.json").write_text("{")
    with pytest.raises(SourceError, match=r"shapes\.json: the file cannot be read"):
        config.load()


@pytest.mark.parametrize("in_the_way", ["file", "folder in use"])
def test_what_is_in_the_way_is_left_alone(in_the_way: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    mine = place if in_the_way == "file" else place / "mine.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(SourceError, match="place: "):
        make_shapes(place, ShapesConfig(**SMALL))
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def interrupted(*arguments: Any, **keys: float) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return draw(*arguments, **keys)

    monkeypatch.setattr(shapes, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "made", ShapesConfig(**SMALL))
    assert list(tmp_path.iterdir()) == []


def test_of_two_makers_the_first_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config = tmp_path / "made", ShapesConfig(**SMALL)
    draw_splits = shapes._draw_splits
    times: dict[Path, int] = {}

    def overtaken(partial: Path, config: ShapesConfig) -> None:
        monkeypatch.setattr(shapes, "_draw_splits", draw_splits)
        make_shapes(folder, config)
        times.update((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
        draw_splits(partial, config)

    monkeypatch.setattr(shapes, "_draw_splits", overtaken)
    make_shapes(folder, config)
    assert times
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def _load_small(_: int) -> int:
    return len(ShapesConfig(**SMALL).load().train)


def test_processes_that_load_at_once_all_get_the_images(own_cache: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_load_small, range(6), chunksize=1) == [24] * 6
    assert [path.name for path in own_cache.iterdir()] == [f"shapes-{ShapesConfig(**SMALL).fingerprint()}"]


def test_every_class_must_fit_into_both_splits() -> None:
    with pytest.raises(ValidationError, match="num_classes is 4, but num_test is only 3; raise num_test"):
        ShapesConfig(num_train=24, num_test=3, num_classes=4)


def test_the_keys_in_the_folder_are_the_configs(tmp_path: Path) -> None:
    make_shapes(tmp_path / "made", ShapesConfig(**SMALL, seed=3))
    made = json.loads((tmp_path / "made" / "shapes.json").read_text())
    assert made == {"format": shapes.FORMAT, **SMALL, "seed": 3}
