"""Published names are fetched once, checked, and refused in one sentence where there is no network."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from issl_engine.weights import download, reference
from issl_engine.weights.download import fetch_published
from issl_engine.weights.open_encoder import open_encoder
from issl_engine.weights.published import PUBLISHED, Published

NAME = "dino_resnet50"


def test_names_are_the_authors_and_files_do_not_collide() -> None:
    assert {f"dissl_resnet50_{name}" for name in ("d8192_e400_m6", "dNone_e100_m2", "d8192_e800_m8")} <= set(PUBLISHED)
    assert PUBLISHED["dissl_resnet50_d8192_e400_m6"].url == (
        "https://github.com/YannDubs/Invariant-Self-Supervised-Learning/releases/download/v1.0.0-alpha/"
        "dissl_resnet50_d8192_e400_m6.torch"
    )
    assert len({entry.file_name for entry in PUBLISHED.values()}) == len(PUBLISHED)
    assert PUBLISHED["torchvision:resnet50_v2"].sha256 == "11ad3fa6"


@pytest.fixture
def on_disk(tmp_path: Path, resnet18: nn.Module, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A published name whose address is a file of this machine."""
    path = tmp_path / "net" / "resnet18.pth"
    path.parent.mkdir()
    torch.save(resnet18.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = replace(PUBLISHED[NAME], url=path.as_uri(), sha256=digest[:8])
    monkeypatch.setattr(reference, "PUBLISHED", {NAME: entry})
    return entry


def test_a_name_is_fetched_once_and_has_its_authors_preprocessing(on_disk: Published, tmp_path: Path) -> None:
    opened = open_encoder(NAME)
    assert (opened.name, opened.layout) == (NAME, "torchvision")
    assert opened.preprocessing.interpolation == "bicubic"
    (tmp_path / "net" / "resnet18.pth").unlink()
    assert open_encoder(NAME).digest == opened.digest


def test_a_file_of_another_checksum_is_not_kept(on_disk: Published, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a file of another checksum"):
        fetch_published(NAME, replace(on_disk, sha256="00000000"))
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_an_answer_that_breaks_off_is_not_kept(
    on_disk: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(url: str, file: object) -> None:
        raise OSError("3 of 9 bytes came")

    monkeypatch.setattr(download, "_copy", broken)
    with pytest.raises(ValueError, match=r"could not be downloaded \(3 of 9 bytes came\).*give the file itself"):
        fetch_published(NAME, on_disk)
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_without_network_one_sentence_says_where_the_file_would_lie(on_disk: Published, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could not be downloaded") as raised:
        fetch_published(NAME, replace(on_disk, url=(tmp_path / "nowhere.pth").as_uri()))
    assert str(tmp_path / "cache" / "weights") in str(raised.value)


def test_unknown_names_of_a_family_say_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"torchvision:resnet51: no such published weights; there are torchvision"):
        open_encoder("torchvision:resnet51")
