"""Maps show the plane of largest variance and the true neighbours, and damaged ones are seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from issl_engine.report import feature_map as module
from issl_engine.report.feature_map import (
    MOST_IMAGES,
    chosen_images,
    make_feature_map,
    nearest,
    principal_plane,
    read_feature_map,
    write_feature_map,
)
from issl_engine.report.thumbnails import COLUMNS, SIDE, read_thumbnails

from .run_folders import CLASSES, NUM_IMAGES, clustered_map, tiny_dataset, write_thumbnails


@pytest.mark.parametrize(("count", "width"), [(40, 7), (12, 300), (3, 2)])
def test_plane_is_that_of_the_singular_vectors(count: int, width: int) -> None:
    x = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 2
    found, shares = principal_plane(x)
    left, singular, _ = np.linalg.svd(x.numpy() - x.numpy().mean(0), full_matrices=False)
    expected = left[:, :2] * singular[:2]
    np.testing.assert_allclose(np.abs(found.numpy()), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares.numpy(), singular[:2] ** 2 / (singular**2).sum(), atol=1e-12)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_features_that_have_collapsed_lie_on_a_point() -> None:
    found, shares = principal_plane(torch.ones(5, 4, dtype=torch.float64))
    assert found.abs().max() < 1e-6
    assert shares.tolist() == [0, 0]
    assert np.isfinite(make_feature_map(torch.zeros(5, 4), sprite="y").pca_M2).all()


def test_neighbours_are_the_nearest_by_cosine_and_never_the_image_itself() -> None:
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(2)).numpy().astype(np.float64)
    found = make_feature_map(torch.from_numpy(x * 7.5), sprite="y")
    for image in range(30):
        cosines = [
            float(x[image] @ x[other] / np.linalg.norm(x[image]) / np.linalg.norm(x[other])) for other in range(30)
        ]
        order = sorted((other for other in range(30) if other != image), key=lambda other: -cosines[other])[:8]
        assert found.neighbours_MK[image].tolist() == order
        np.testing.assert_allclose(found.cosines_MK[image], [cosines[other] for other in order], atol=1e-6)


def test_few_images_have_few_neighbours() -> None:
    places, _ = nearest(torch.eye(3, dtype=torch.float64), 8)
    assert places.shape == (3, 2)


def test_the_same_images_are_chosen_for_every_arm_and_no_more_than_a_thousand() -> None:
    chosen = chosen_images(5000)
    assert len(set(chosen.tolist())) == len(chosen) == MOST_IMAGES
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == chosen_images(5000).tolist()
    assert chosen_images(7).tolist() == list(range(7))


def test_a_map_is_read_as_it_was_written_and_equal_maps_are_equal_files(tmp_path: Path) -> None:
    first = clustered_map(0)
    write_feature_map(tmp_path / "a.npz", first)
    write_feature_map(tmp_path / "b.npz", clustered_map(0))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_feature_map(tmp_path / "a.npz")
    assert found is not None
    assert (found.sprite, found.umap_M2) == (first.sprite, first.umap_M2)
    np.testing.assert_array_equal(found.pca_M2, first.pca_M2)
    np.testing.assert_array_equal(found.neighbours_MK, first.neighbours_MK)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.98])
def test_a_torn_map_is_none(tmp_path: Path, left: float) -> None:
    path = tmp_path / "a.npz"
    write_feature_map(path, clustered_map(0))
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    assert read_feature_map(path) is None
    assert read_feature_map(tmp_path / "missing.npz") is None


def test_thumbnails_show_the_images_in_the_maps_order(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.webp"
    images = np.array([*range(1, NUM_IMAGES), 0])
    write_thumbnails(path, tiny_dataset(), images)
    found = read_thumbnails(path)
    assert found is not None
    assert found.classes == list(CLASSES)
    assert found.labels == [image % 3 for image in images]
    with Image.open(path) as sprite:
        for place, label in enumerate(found.labels):
            x, y = place % COLUMNS * SIDE + SIDE // 2, place // COLUMNS * SIDE + SIDE // 2
            assert np.argmax(sprite.convert("RGB").getpixel((x, y))) == label
    for torn in (path, path.with_suffix(".json")):
        whole = torn.read_bytes()
        torn.write_bytes(whole[: len(whole) // 2])
        assert read_thumbnails(path) is None
        torn.write_bytes(whole)


def test_images_without_one_class_get_none(tmp_path: Path) -> None:
    dataset = tiny_dataset(4)
    object.__setattr__(dataset.test, "labels", np.zeros((4, 3), dtype=np.float32))
    write_thumbnails(tmp_path / "t.webp", dataset, np.arange(4))
    found = read_thumbnails(tmp_path / "t.webp")
    assert found is not None
    assert found.labels == [-1] * 4


@pytest.mark.long
def test_umap_is_there_where_it_is_installed_and_repeats() -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    first, second = clustered_map(0), clustered_map(0)
    assert first.umap_M2 is not None
    assert first.umap_M2.shape == (NUM_IMAGES, 2)
    np.testing.assert_array_equal(first.umap_M2, second.umap_M2)


def test_umap_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda _: None)
    assert clustered_map(0).umap_M2 is None
