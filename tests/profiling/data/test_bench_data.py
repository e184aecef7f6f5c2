"""issl-engine bench data: what is timed, what is said of it, and memory over many batches."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_profiling.data import loaders, rates
from issl_profiling.data.cases import DataCase, make_photos, small_case
from issl_profiling.data.loaders import LOADER, Candidate, changes, packed_side, peers, stages
from issl_profiling.data.rates import Rate, measure_rates
from issl_profiling.data.soak import Soak, describe_soak, soak
from issl_profiling.data.table import COLUMNS, advice, loader_over
from issl_profiling.data.torchvision_loader import TorchvisionViews, no_counterpart

CPU = torch.device("cpu")
VIEWS = ViewsConfig(
    groups=(CropGroup(count=2, size=16), CropGroup(count=3, size=8, area=(0.1, 0.4))),
    augmentation=Augmentation(colour_jitter=ColourJitter(), blur=Blur(), solarise=Solarise()),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return make_photos(tmp_path_factory.mktemp("photos"), count=16)


def case_of(images: ImageSet, views: ViewsConfig = VIEWS) -> DataCase:
    return DataCase(name="x", images=images, views=views, batch_size=4, decode_threads=1, device=CPU)


def _never(seed: int) -> loaders.Loader:
    raise AssertionError("only its values are looked at")


def rate(name: str, *values: float, kind: str = "change") -> Rate:
    candidate = Candidate(kind=kind, name=name, start=_never, warmup_batches=0, advice=f"do {name}")
    return Rate(candidate=candidate, values=values)


def test_photos_are_as_large_as_imagenet_s_files_and_the_same_each_time(photos: ImageSet, tmp_path: Path) -> None:
    sizes = [len(photos.stored_bytes(index)) for index in range(16)]
    assert 80_000 < np.mean(sizes) < 140_000
    assert len({photos.stored_bytes(index) for index in range(16)}) == 16
    again = make_photos(tmp_path, count=16)
    assert all(photos.stored_bytes(index) == again.stored_bytes(index) for index in range(16))


def test_stages_build_on_each_other_and_all_of_them_run(photos: ImageSet) -> None:
    found = stages(case_of(photos))
    assert [one.name for one in found] == ["read", "+ decode", "+ crops", LOADER, "delivery alone"]
    for candidate in found:
        loader = candidate.start(0)
        for _ in range(5):  # more than an epoch of four batches
            next(loader)
        loader.close()


def test_pixels_are_not_decoded() -> None:
    assert [one.name for one in stages(small_case(decode_threads=1, device=CPU))] == [
        "read",
        "+ crops",
        LOADER,
        "delivery alone",
    ]


def test_every_change_that_is_tried_runs_and_names_the_key(photos: ImageSet, tmp_path: Path) -> None:
    found = {one.name: one for one in changes(case_of(photos), tmp_path)}
    advices = " ".join(one.advice for one in found.values())
    for key in ("data.decode_threads=", "data.prefetch_batches=4", "data.cache_gib=", "data pack SOURCE --max-side 32"):
        assert key in advices
    for candidate in found.values():
        loader = candidate.start(0)
        batch = next(loader)
        loader.close()
        assert [crop.shape[-1] for crop in batch.crops] == [16, 8]


def test_packing_is_only_proposed_for_images_that_are_larger_than_the_crops_need(photos: ImageSet) -> None:
    assert packed_side(case_of(photos)) == 32
    large = ViewsConfig(groups=(CropGroup(count=2, size=300),))
    assert packed_side(case_of(photos, large)) is None


def test_rates_are_images_per_second_and_each_loader_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, opened, closed, seeds = [0.0], [0], [0], []

    class Slow:
        def __next__(self) -> None:
            now[0] += 0.5

        def close(self) -> None:
            closed[0] += 1

    def start(seed: int) -> Slow:
        opened[0] += 1
        seeds.append(seed)
        return Slow()

    monkeypatch.setattr(rates.time, "perf_counter", lambda: now[0])
    case = small_case(decode_threads=1, device=CPU)
    slow = Candidate(kind="peer", name="slow", start=start, warmup_batches=3)
    (found,) = measure_rates(case, [slow], rounds=3, on_round=lambda number, one: None)
    assert found.values == (2 * case.batch_size,) * 3
    assert opened == closed == [3]
    assert seeds == [0, 1, 2]


def test_advice_names_what_helps_best_first_with_the_speed_to_expect() -> None:
    measured = [
        rate(LOADER, 100, 120, 80, kind="stage"), rate("a", 110, 132, 88), rate("b", 150, 180, 120),
        rate("c", 101, 121, 80),
    ]  # fmt: skip
    assert advice(measured) == [
        "do b: 1.50 x, about 150 images/s instead of 100",
        "do a: 1.10 x, about 110 images/s instead of 100",
        "no gain from c (1.01 x)",
    ]


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down in one round slows both."""
    ours, other = rate(LOADER, 100, 10, 100, kind="stage"), rate("peer", 50, 5, 50, kind="peer")
    assert loader_over([ours, other], other) == 2


@pytest.mark.parametrize("backend", ["tensor", "PIL"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_peer_gives_views_of_the_same_shapes_and_scale(backend: str, channels: int) -> None:
    small = small_case(decode_threads=1, device=CPU)
    assert small.images.pixels is not None
    images = ImageSet(labels=np.zeros(64, np.int64), sizes_HW=small.images.sizes_HW[:64],
                      pixels=small.images.pixels[:64, ..., :channels])  # fmt: skip
    weak = ColourJitter(brightness=0.05, contrast=0.05)  # strong, the means of so few images would differ by chance
    augmentation = Augmentation(colour_jitter=weak, blur=Blur(), solarise=Solarise())
    views = VIEWS.model_copy(update={"augmentation": augmentation})
    case = DataCase(name="x", images=images, views=views, batch_size=64, decode_threads=1, device=CPU)
    assert no_counterpart(views) is None
    torch.manual_seed(0)
    theirs = TorchvisionViews(case, "tensor" if backend == "tensor" else "PIL")
    ours = loaders.training_views(case)
    flat = [view for crop in next(ours).crops for view in crop]
    batch = next(theirs)
    ours.close()
    theirs.close()
    assert [view.shape for view in batch] == [view.shape for view in flat]
    for mine, other in zip(flat, batch, strict=True):
        assert abs(mine.mean() - other.mean()) < 0.2
        assert abs(mine.std() - other.std()) < 0.2


def test_what_the_peer_cannot_do_is_said_and_not_left_out_silently() -> None:
    noisy = VIEWS.model_copy(update={"augmentation": Augmentation(gaussian_noise=GaussianNoise())})
    assert no_counterpart(noisy) == "augmentation.gaussian_noise has no counterpart in this comparison"


def test_peers_use_as_many_workers_as_we_have_threads(photos: ImageSet) -> None:
    case = case_of(photos)
    started = [peer.start(0) for peer in peers(case)]
    assert [one._loader.num_workers for one in started if isinstance(one, TorchvisionViews)] == [1, 1]


def test_a_soak_samples_the_process_and_reports_its_growth(photos: ImageSet) -> None:
    seen: list[int] = []
    measured = soak(case_of(photos), 20, seen.append)
    assert measured.batches == tuple(range(1, 21))
    assert seen == list(measured.batches)
    assert min(measured.resident_mib) > 50
    grown = Soak(batches=(1, 10, 100), resident_mib=(10.0, 200.0, 230.0), gpu_mib=(0.0, 0.0, 0.0))
    assert grown.growth_mib == 30
    assert describe_soak(grown) == "from a tenth of the batches on 200 to 230 MiB (+30.0 MiB)"


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "data", *arguments])


def test_the_command_times_a_recipe_and_keeps_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS_PER_ROUND", 0.0)
    out = tmp_path / "data.csv"
    result = bench("smoke", "--rounds", "1", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "its own" in result.stdout
    assert "torchvision, tensors" in result.stdout
    result = bench("smoke", "--rounds", "1", "--out", str(out), "--json", "--no-peers")
    assert result.exit_code == 0, result.output
    lines = json.loads(result.stdout)
    with out.open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert tuple(kept[0]) == COLUMNS
    assert {line["kind"] for line in kept} == {"stage", "alone", "peer", "change"}
    assert [line["name"] for line in kept[-len(lines) :]] == [line["name"] for line in lines]
    assert all(float(line["images_per_second"]) > 0 and line["commit"] and line["command"] for line in kept)


def test_the_command_draws_the_soak(tmp_path: Path) -> None:
    out = tmp_path / "soak.csv"
    result = bench("--case", "small", "--soak", "10", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "from a tenth of the batches on" in result.stdout
    assert out.with_suffix(".png").stat().st_size > 5000
    assert len(out.read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smoke", "--case", "small"], "--case and --threads go without RECIPE"),
        (["--soak", "20"], "--soak takes one loader"),
        (["--out", "nowhere/x.csv"], "there is no folder nowhere"),
        (["no_such_recipe"], "no_such_recipe"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_another_table_is_not_written_into(tmp_path: Path) -> None:
    other = tmp_path / "mine.csv"
    other.write_text("a,b\n1,2\n")
    result = bench("--case", "small", "--out", str(other))
    assert result.exit_code == 1
    assert "holds something else" in result.stderr
    assert other.read_text() == "a,b\n1,2\n"
