"""Our augmentations beside torchvision's: pixels, and the distributions of random numbers."""

import csv
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.loading.augmentations import colour as colour_graph
from issl_engine.loading.augmentations import crop as crop_graph
from issl_engine.views.augmentations import crop as crop_draws
from issl_profiling.parity import compare as parity
from issl_profiling.parity import draws as parity_draws
from issl_profiling.parity.deviation import BEYOND, COLUMNS, GREY_LEVELS, KS_DISTANCE, SHARE, WITHIN, Deviation
from issl_profiling.parity.draws import compare_draws, ks_allowed, ks_distance
from issl_profiling.parity.operators import compare_operator, operators
from issl_profiling.torchvision_oracle import load_torchvision

HSV = ("hue", "colour jitter")
"""No linear map of colours is HSV's: these are held to the bounds that the comparison names."""


@pytest.fixture(scope="module")
def transforms() -> Any:
    try:
        load_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    return import_module("torchvision.transforms.v2")


@pytest.fixture(scope="module")
def deviations(transforms: Any) -> list[Deviation]:
    return parity.measure_parity()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--quiet", "bench", "parity", *arguments])


def named(name: str) -> Any:
    return [operator for operator in operators() if operator.name == name]


def test_every_operator_gives_torchvisions_pixels(deviations: list[Deviation]) -> None:
    pixels = [row for row in deviations if row.measure == GREY_LEVELS]
    assert {row.operator for row in pixels} == {
        "resize bilinear", "resize bicubic", "crop and resize bilinear", "crop and resize bicubic", "brightness",
        "contrast", "saturation", "hue", "colour jitter", "grey", "blur", "flip", "solarise", "normalise",
        "evaluation bilinear", "evaluation bicubic", "decode JPEG",
    }  # fmt: skip
    assert [row for row in pixels if row.verdict != WITHIN] == []
    assert all(row.allowed <= 2 for row in pixels if row.operator not in HSV)
    assert all(row.max is not None and row.max <= 2 for row in pixels if row.operator in ("brightness", "contrast"))


def test_every_random_number_is_distributed_as_torchvisions(deviations: list[Deviation]) -> None:
    random = [row for row in deviations if row.measure in (KS_DISTANCE, SHARE)]
    assert len(random) == 12 + 5 + 6
    assert [row for row in random if row.verdict != WITHIN] == []
    assert all(row.value > 0 for row in random)  # not a distribution with itself


def test_contrast_about_mid_grey_would_be_found(transforms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_graph, "mean_grey", lambda image, channels: 128.0)
    for operator in named("contrast"):
        assert compare_operator(transforms.functional, operator).verdict == BEYOND


def test_a_resize_without_antialiasing_would_be_found(transforms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resize = crop_graph.fn.resize

    def aliased(*inputs: Any, antialias: bool, **settings: Any) -> Any:
        return resize(*inputs, antialias=False, **settings)

    monkeypatch.setattr(crop_graph.fn, "resize", aliased)
    smaller = named("resize bilinear")[0]
    assert compare_operator(transforms.functional, smaller).verdict == BEYOND


def test_windows_and_shares_that_are_slightly_off_would_be_found(
    transforms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratio drawn uniformly and not its logarithm; flips at 0.53."""

    def uniform_ratios(sizes_HW: Any, area: Any, ratio: Any, uniforms_BU: Any) -> Any:
        uniforms_BU = uniforms_BU.copy()
        ratios = uniforms_BU[:, crop_draws.ATTEMPTS : 2 * crop_draws.ATTEMPTS]
        ratios[:] = np.log1p(ratios * (ratio[1] / ratio[0] - 1)) / np.log(ratio[1] / ratio[0])
        return crop_windows(sizes_HW, area, ratio, uniforms_BU)

    crop_windows = crop_draws.crop_windows
    monkeypatch.setattr(crop_draws, "crop_windows", uniform_ratios)
    drawn = parity_draws._drawn
    flipped = parity_draws.AUGMENTATION.model_copy(update={"flip": 0.53})
    monkeypatch.setattr(parity_draws, "CROPS", parity_draws.CROPS[:1])
    monkeypatch.setattr(parity_draws, "_drawn", lambda augmentation, *size: drawn(flipped, *size))
    beyond = [row.operator for row in compare_draws(transforms) if row.verdict == BEYOND]
    assert beyond == ["crop's ratio", "flip"]


def test_the_ks_distance_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=301).round(1), rng.normal(0.2, 1.1, size=417).round(1)
    result = stats.ks_2samp(ours, theirs)
    assert ks_distance(ours, theirs) == pytest.approx(result.statistic)
    n = 10_000
    assert stats.kstwo.sf(ks_allowed(n, n), n // 2) == pytest.approx(parity_draws.CHANCE, rel=0.1)


def rows(value: float) -> list[Deviation]:
    crop = Deviation(
        operator="flip", parameters="", compared="all pixels", measure=GREY_LEVELS, value=value, p99=1.0, max=3.0,
        allowed=2.0,
    )  # fmt: skip
    return [crop, Deviation(operator="hue factor", parameters="", compared="", measure=SHARE, value=0.1, allowed=0.2)]


def test_the_command_prints_and_writes_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "measure_parity", lambda: rows(1.23456))
    out = tmp_path / "parity.csv"
    for _ in range(2):  # the second run writes the file anew
        result = call("--out", str(out))
        assert result.exit_code == 0, result.output
    assert "2 of 2 within what is allowed" in result.stdout
    assert result.stdout.splitlines()[-1] == str(out)
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert (first["operator"], first["value"], first["p99"], first["verdict"]) == ("flip", "1.235", "1.0", "within")
    assert (second["measure"], second["p99"]) == ("share", "")
    for column in ("torch", "dali", "pillow", "device", "date", "command"):
        assert first[column]
    assert json.loads(call("--out", str(out), "--json").stdout)[0]["value"] == 1.235


def test_something_too_far_off_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "measure_parity", lambda: rows(2.5))
    result = call("--out", str(tmp_path / "parity.csv"))
    assert result.exit_code == 1
    assert "1 of 2 within what is allowed" in result.stdout
    assert "beyond" in result.stdout


def test_a_file_that_is_no_result_of_parity_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "measure_parity", lambda: pytest.fail("measured before the file was looked at"))
    other = tmp_path / "notes.csv"
    other.write_text("a,b\n1,2\n")
    columns = f"it has the columns a, b, not {', '.join(COLUMNS)}; name another file\n"
    for out, sentence in (
        (other, f"error: {other} holds something else than parity's results: {columns}"),
        (tmp_path, f"error: {tmp_path} is a folder; name a file\n"),
        (tmp_path / "no" / "p.csv", f"error: there is no folder {tmp_path / 'no'} for p.csv; make it, or name another"),
    ):
        result = call("--out", str(out))
        assert result.exit_code == 1
        assert result.stderr.startswith(sentence)
    assert other.read_text() == "a,b\n1,2\n"


def test_without_torchvision_one_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    result = call("--out", str(tmp_path / "parity.csv"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: parity needs torchvision: ")
    assert result.stderr.endswith("install it with: pip install 'issl-engine[peers]'\n")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "parity.csv").exists()
