"""The suite of the paper's transfer table on small copies of three archives; the others are left out with a reason."""

from pathlib import Path

import numpy as np
import pytest
import torch

from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.recipe.load import load_recipe, load_suite
from issl_engine.run.suite.run import SuiteOutcome, run_suite
from issl_engine.run.suite.subject import Subject
from issl_engine.weights.open_encoder import OpenedEncoder, weights_digest

from ...sources.test_image_list import images, write

pytestmark = pytest.mark.usefixtures("own_cache")


def food(folder: Path) -> None:
    lines = {"train": [f"pie/{n}" for n in range(4)] + [f"ramen/{n}" for n in range(4)], "test": ["pie/8", "ramen/9"]}
    for split, names in lines.items():
        images(folder, *(f"images/{name}.jpg" for name in names))
        write(folder, f"meta/{split}.txt", *names)


def pets(folder: Path) -> None:
    """Uneven classes, so that top-1 and the mean over classes differ."""
    lines = {
        "trainval": [f"Bengal_{n} 1 1 1" for n in range(5)] + [f"pug_{n} 2 2 1" for n in range(4)],
        "test": [f"Bengal_{n} 1 1 1" for n in range(10, 17)] + ["pug_10 2 2 1"],
    }
    for split, names in lines.items():
        images(folder, *(f"images/{name.split()[0]}.jpg" for name in names))
        write(folder, f"annotations/{split}.txt", *names)


def flowers(folder: Path) -> None:
    """Hugging Face's layout: a struct of bytes and path, whole numbers as labels."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pixels = folder / "pixels"
    (folder / "data").mkdir(parents=True)
    for split, first, count in (("train", 0, 4), ("validation", 4, 4), ("test", 8, 2)):
        names = [f"{number}.jpg" for number in range(first, first + count)]
        images(pixels, *names)
        rows = [{"bytes": (pixels / name).read_bytes(), "path": name} for name in names]
        labels = [number % 2 for number in range(count)]
        table = pa.table({"image": rows, "label": labels})
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")


def place_of(setting: str) -> int:
    return [one.setting for one in load_suite("transfer_paper").sources].index(setting)


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuiteOutcome:
    monkeypatch.chdir(tmp_path)
    overrides = []
    for setting, make in (("food101", food), ("pets", pets), ("flowers", flowers)):
        make(tmp_path / setting)
        overrides.append(f"sources.{place_of(setting)}.source.folder={tmp_path / setting}")
    suite = load_suite("transfer_paper", overrides)
    recipe = load_recipe("smoke", ["evaluation={resize: 16, crop: 16}"], ["dissl"]).arms["dissl"]
    torch.manual_seed(0)
    encoder = SmallResNetConfig(width=4, dim=8).build(image_size=16)
    opened = OpenedEncoder(
        encoder=encoder, name="n", digest=weights_digest(encoder), recipe=recipe, seed=0, config=recipe.encoder,
        image_size=16, preprocessing=recipe.preprocessing, layout="checkpoint",
    )  # fmt: skip
    subject = Subject.of(suite, opened, recipe, seed=0, device=torch.device("cpu"), cache=None)
    return run_suite(suite, [subject], recipe.source, folder=tmp_path / "out", on_part=lambda one: None)


def of(outcome: SuiteOutcome, setting: str) -> ProbeResult:
    (result,) = [one for one in outcome.results if one.setting == setting]
    return result


def test_each_set_has_its_official_split_and_metric(outcome: SuiteOutcome) -> None:
    found = {one.setting: (one.metric, one.num_train_images, one.num_split_images) for one in outcome.results}
    assert found == {
        "food101": ("top1", 8, 2), "pets": ("mean_per_class", 9, 8), "flowers": ("mean_per_class", 8, 2),
    }  # fmt: skip
    assert {one.protocol for one in outcome.results} == {"issl_transfer"}
    assert of(outcome, "food101").split == "test"


def test_the_mean_over_classes_is_not_top1(outcome: SuiteOutcome) -> None:
    shares = {100 * (bengal / 7 + pug) / 2 for bengal in range(8) for pug in (0, 1)}
    assert np.isclose(of(outcome, "pets").value, sorted(shares)).any()


def test_what_is_not_there_is_left_out_with_its_reason(outcome: SuiteOutcome) -> None:
    assert set(outcome.left_out) == {"cifar10", "cifar100", "cars", "aircraft", "dtd", "caltech101"}
    assert all("is not a folder" in reason or "folder" in reason for reason in outcome.left_out.values())
