"""data pack --verify: broken shards are named."""

import json
from pathlib import Path

import pytest

from issl_engine.sources.base import Dataset, SourceError
from issl_engine.sources.packing.pack import pack_dataset
from issl_engine.sources.packing.verify import broken_shards

from .packed_folders import SMALL


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "list", "no list"])
def test_verifying_names_the_broken_shard(damage: str, dataset: Dataset, out: Path) -> None:
    pack_dataset(dataset, out, SMALL)
    reported: list[tuple[int, int]] = []
    assert broken_shards(out, on_progress=lambda *now: reported.append(now)) == {}
    assert reported[-1] == (len(reported), len(reported))
    path = out / "train-000001.tar"
    content = bytearray(path.read_bytes())
    table = path.with_suffix(".json")
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-512])
    elif damage == "remove":
        path.unlink()
    elif damage == "list":
        samples = json.loads(table.read_text())
        samples["samples"][1][1] += 1
        table.write_text(json.dumps(samples))
    else:
        table.unlink()
    expected = {
        "flip": "the checksum is wrong",
        "cut": f"has {len(content) - 512} bytes instead of {len(content)}",
        "remove": "the file is missing",
        "list": "its list of samples, train-000001.json, is not that of the tar file",
        "no list": "its list of samples, train-000001.json, cannot be read",
    }
    assert broken_shards(out) == {"train-000001.tar": expected[damage]}


def test_verifying_what_is_incomplete_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"index\.json: the file is missing, so packing was not completed"):
        broken_shards(tmp_path)
