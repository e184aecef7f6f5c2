"""issl-engine data pack: what it prints, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from issl_engine.cli import main


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", "pack", *map(str, arguments)])


def make(folder: Path, images_of_class: int, side: int) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(images_of_class):
                pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.jpg", quality=80)
    return folder


@pytest.fixture
def photos(tmp_path: Path, own_cache: Path) -> Path:
    return make(tmp_path / "photos", 3, 40)


def test_a_folder_is_packed_and_verified(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    packed = call(photos, "--out", out)
    assert packed.exit_code == 0, packed.output
    assert packed.stdout.startswith(f"{out}\n  train: 6 images in 1 shard, 0.")
    assert "left out: 0 images" in packed.stdout
    verified = call("--verify", "--out", out)
    assert (verified.exit_code, "all checksums are right" in verified.stdout) == (0, True)
    (out / "test-000000.tar").write_bytes(b"")
    broken = call("--verify", "--out", out)
    assert broken.exit_code == 1
    assert "test-000000.tar: has 0 bytes instead of" in broken.stdout
    assert "1 of 2 shards are broken; remove them and run data pack again" in broken.stderr


def test_a_recipes_source_is_packed_with_overrides_and_printed_as_json(photos: Path, tmp_path: Path) -> None:
    (photos / "val").rename(photos / "test")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nsource: {name: image_folder, folder: nowhere}\nviews: {groups: [{count: 2, size: 16}]}\n"
        "encoder: {name: small_resnet}\nobjective: {name: simclr}\noptimizer: {name: adamw, lr: 1e-3}\n"
        "training: {epochs: 1, global_batch_size: 4}\nevaluation: {resize: 16, crop: 16}\nprobes: []\n"
    )
    out = tmp_path / "out"
    overrides = (f"source.folder={photos}", "source.test_split=test")
    packed = call(recipe, *overrides, "--out", out, "--max-side", 24, "--json")
    assert packed.exit_code == 0, packed.output
    printed = json.loads(packed.stdout)
    assert printed["reencoded"] == {"shorter_side_px": 24, "quality": 90, "images": 12}
    assert (printed["folder"], printed["classes"], printed["left_out"]) == (str(out), ["cat", "dog"], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "SOURCE is missing: name a folder or a recipe, or give --verify"),
        (("photos", "--quality", "80"), "--quality is for images that --max-side makes smaller"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_another_source_in_the_folder_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    call(photos, "--out", tmp_path / "out")
    result = call(photos, "--out", tmp_path / "out", "--seed", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'out'}: was packed with other settings (seed 0 there and 1")


def test_ctrl_c_says_that_the_command_goes_on(photos: Path, tmp_path: Path) -> None:
    """In a process of its own, in which reading the images takes long."""
    (tmp_path / "slow.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where tests run in the background it is ignored
        "from issl_engine.cli import main\nfrom issl_engine.sources.packing import pack\n"
        "make = pack.make_sample\n"
        "def slow(*place):\n    open(sys.argv[1], 'w').close()\n    time.sleep(0.3)\n    return make(*place)\n"
        "pack.make_sample = slow\nmain(sys.argv[2:])\n"
    )
    begun, out = tmp_path / "begun", tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py", begun, "data", "pack", photos, "--out", out],
        stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"{out}: stopped; the same command goes on after the last complete shard" in said
    assert "Traceback" not in said
    assert {path.name for path in out.iterdir()} <= {".lock", "pack.json"}
