"""What the theory asks of a recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.sources.base import ImageSet
from issl_engine.theory.overlap import ClassEstimate, estimate_classes
from issl_engine.theory.requirements import Requirement, requirements
from issl_engine.theory.sampled_views import sample_views
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig


def estimate_of(classes: int, *, low: int = 10, high: int = 4096, evidence: bool = True) -> ClassEstimate:
    return ClassEstimate(
        estimate=classes, low=low, high=high, num_images=high, num_sampled=100, views_per_image=8, seen=20,
        joined_one_label=0.5, joined_two_labels=0.1, evidence=evidence,
    )  # fmt: skip


def of(arm: str, estimate: ClassEstimate, dim: int, *overrides: str) -> dict[str, Requirement]:
    recipe = load_recipe("smoke", overrides, [arm]).arms[arm]
    return {one.item: one for one in requirements(recipe, estimate, dim)}


LINEAR_PROBE = "probes=[{name: linear}]"


@pytest.mark.parametrize(("dim", "met"), [(98, False), (99, True), (5000, True)])
def test_linear_probes_need_c_minus_1_dimensions(dim: int, met: bool) -> None:
    found = of("dissl", estimate_of(100), dim, LINEAR_PROBE)["width for linear probes"]
    assert found.met is met
    assert found.needed == "d >= C - 1 = 99 (9 to 4095)"
    assert ("raise encoder.dim" in found.advice) is not met
    assert ("d = 4095 would be needed" in found.advice) is (dim == 99)


def test_of_probes_that_it_knows_nothing_of_the_theory_says_nothing() -> None:
    found = of("dissl", estimate_of(100), 8, "probes=[{name: knn}]")
    assert found["width for other probes"].met is None
    assert not any(item.startswith("a head") for item in found)


def test_one_head_must_be_the_probes() -> None:
    item = "a head for linear probes"
    assert of("dissl", estimate_of(10), 99, LINEAR_PROBE)[item].met is True
    mismatched = of("dissl", estimate_of(10), 99, LINEAR_PROBE, "arms.dissl.objective.student_head=mlp")[item]
    assert mismatched.met is False
    assert mismatched.advice == "set objective.student_head to linear, or judge by MLP probes"
    block = of("dissl", estimate_of(10), 99, LINEAR_PROBE, "arms.dissl.objective.student_head=block_bottleneck")[item]
    assert (block.met, block.advice) == (False, mismatched.advice)
    symmetric = of("simclr", estimate_of(10), 99, LINEAR_PROBE)[item]
    assert symmetric.met is False
    assert "cissl and dissl" in symmetric.advice


def test_dissl_needs_as_many_classes_as_there_are() -> None:
    assert of("dissl", estimate_of(32), 99)["DISSL's classes"].met is True
    fewer = of("dissl", estimate_of(33), 99)["DISSL's classes"]
    assert fewer.met is False
    assert "raise objective.num_classes" in fewer.advice
    assert "DISSL's classes" not in of("simclr", estimate_of(33), 99)


def test_augmentations_are_called_coarse_where_images_share_views() -> None:
    assert of("dissl", estimate_of(40), 99)["coarse augmentations"].met is True
    fine = of("dissl", estimate_of(4000), 99)["coarse augmentations"]
    assert fine.met is False
    assert "this recipe leaves out blur, rotation, policy" in fine.advice
    unknown = of("dissl", estimate_of(4096, evidence=False), 99)["coarse augmentations"]
    assert unknown.met is None
    assert "--encoder" in unknown.advice


def test_images_that_are_there_many_times_are_found_by_their_views() -> None:
    """Of twelve pictures in ten copies each, through the pipeline that training uses: C is known to be twelve."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8).repeat(6, axis=1).repeat(6, axis=2)
    classes = np.arange(120) % 12
    images = ImageSet(
        labels=(classes // 3).astype(np.int64), sizes_HW=np.full((120, 2), 24, dtype=np.int32), pixels=pictures[classes]
    )
    views = ViewsConfig(
        groups=(CropGroup(count=2, size=16, area=(0.8, 1.0)), CropGroup(count=1, size=8, area=(0.1, 0.2))),
        augmentation=Augmentation(flip=0, colour_jitter=None, greyscale=0),
    )
    sampled = sample_views(images, views, num_images=96, num_views=5, encoder=None, seed=0)
    assert sampled.x_nVD.shape == (96, 5, 8 * 8 * 3)
    assert torch.bincount(sampled.labels_n, minlength=4).sum() == 96
    for labels in (sampled.labels_n, None):
        assert estimate_classes(sampled.x_nVD, labels, num_images=120).estimate == pytest.approx(12, abs=2)


def test_the_command_prints_the_estimate_and_each_requirement(tmp_path: Path) -> None:
    """The twenty sampled images are of nine labels."""
    small = ["source.num_train=30", "source.num_test=10", "source.image_size=32", LINEAR_PROBE]
    words = ["theory", "requirements", "smoke", *small, "--arm", "dissl", "--images", "20", "--views", "3"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "(at least 9, at most 30 = all images), from 3 views of 20 of 30 images, compared by pixels" in result.stdout
    assert "a head for linear" in result.stdout
    record = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert record["classes"]["num_sampled"] == 20
    assert [one["item"] for one in record["requirements"]] == [
        "width for linear probes", "a head for linear probes", "DISSL's classes", "coarse augmentations"
    ]  # fmt: skip
    unknown = CliRunner().invoke(main, [*words, "--encoder", str(tmp_path / "none")])
    assert unknown.exit_code == 1
    assert len(unknown.stderr.strip().splitlines()) == 1
