"""What we write, safetensors reads; size and checksum are those of the file."""

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from issl_engine.training.checkpoints.tensor_file import TensorFile, write_tensor_file


def test_safetensors_reads_every_type_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {
        "matrix": torch.randn(3, 5), "double": torch.randn(2, dtype=torch.float64), "half": torch.randn(7).half(),
        "brain": torch.randn(3).bfloat16(), "scalar": torch.tensor(4.0), "whole": torch.arange(3),
        "bytes": torch.arange(5, dtype=torch.uint8), "flags": torch.tensor([True, False]), "none": torch.zeros(0, 4),
    }  # fmt: skip
    record = write_tensor_file(path, TensorFile(tensors=tensors, metadata={"note": "é"}))
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(read[name].dtype == value.dtype and read[name].equal(value) for name, value in tensors.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"note": "é"}
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0  # the tensors begin aligned
    assert record.bytes == path.stat().st_size
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_large_tensors_are_written_in_blocks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("issl_engine.training.checkpoints.tensor_file.BYTES_AT_ONCE", 1000)
    tensor = torch.randn(77, 33)
    record = write_tensor_file(tmp_path / "x", TensorFile(tensors={"x": tensor}))
    assert load_file(tmp_path / "x")["x"].equal(tensor)
    assert record.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
