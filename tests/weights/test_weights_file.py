"""Files that are no weights, or that want to run code, are refused in one sentence; inert companions are not."""

import argparse
import collections
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from issl_engine.weights.weights_file import read_weights


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as raised:
        read_weights(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page (HTML or XML), not weights"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page (HTML or XML), not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(300), "damaged or cut short"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no file of weights that torch can read"),
    ],
)
def test_what_is_no_weights_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    assert sentence in refused(tmp_path / "weights.pth")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such folder or file" in refused(tmp_path / "nowhere.pth")
    assert "this is a folder" in refused(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_file_that_was_cut_short_is_named(legacy: bool, share: float, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.randn(4000)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged or cut short" in refused(path)


def test_safetensors_that_were_cut_short_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.randn(4000)}, path)
    path.write_bytes(path.read_bytes()[:-10])
    assert "no whole safetensors file" in refused(path)


class Evil:
    """Would run a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run_and_the_way_out_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.randn(3)}, "config": Evil(tmp_path / "ran")}, tmp_path / "weights.pth")
    text = refused(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
    assert "mkdir" in text
    assert "weights_only=False" in text


def test_companions_that_are_inert_are_read_over_and_containers_are_joined(tmp_path: Path) -> None:
    content = {
        "args": argparse.Namespace(arch="resnet50"),
        "best": np.float64(3.0),
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        "model": collections.OrderedDict({"layer": {"weight": torch.arange(3.0)}}),
        "list": [torch.ones(1)],
    }
    torch.save(content, tmp_path / "weights.ckpt")
    tensors = read_weights(tmp_path / "weights.ckpt").tensors
    assert list(tensors) == ["model.layer.weight"]
    assert tensors["model.layer.weight"].tolist() == [0.0, 1.0, 2.0]


def test_a_file_without_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "weights.pth")
    assert "holds no tensor" in refused(tmp_path / "weights.pth")
