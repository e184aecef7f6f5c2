"""Damage is found, named and passed over; other versions are not; nothing is read twice."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from issl_engine.training.checkpoints.manifest import CheckpointError, OtherFormatError, read_manifest
from issl_engine.training.checkpoints.verify import check_sizes, latest_checkpoint, verify_checkpoint

from .conftest import damage, make


def test_a_truncated_file_is_found_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make(tmp_path, 5)
    path = checkpoint / "learner.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(CheckpointError, match=r"learner\.safetensors is damaged \(it has \d+ bytes, and the manifest"):
        check_sizes(checkpoint)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"lacks learner\.safetensors"):
        check_sizes(checkpoint)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 5)
    damage(checkpoint)
    check_sizes(checkpoint)
    with pytest.raises(CheckpointError, match=r"learner\.safetensors is damaged \(its checksum"):
        verify_checkpoint(checkpoint)
    verify_checkpoint(checkpoint, only={"encoder.safetensors"})


def test_a_file_is_read_once_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(given) or digest(*given))
    checkpoint = make(tmp_path, 5)
    verify_checkpoint(checkpoint)
    assert read == []  # the checksums are known since they were written
    copy = tmp_path / "step_00000006"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    verify_checkpoint(copy)
    verify_checkpoint(copy)
    assert len(read) == 3
    damage(copy)
    with pytest.raises(CheckpointError, match="damaged"):
        verify_checkpoint(copy)
    assert len(read) == 4


def test_the_newest_whole_one_is_taken_and_the_damaged_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, newest = make(tmp_path, 5), make(tmp_path, 10)
    damage(newest)
    assert latest_checkpoint(tmp_path) == whole
    assert f"{newest}: learner.safetensors is damaged" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "files": {"x": 3}}', "\x00\xff"])
def test_a_manifest_that_cannot_be_read_is_damage(content: str, tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 5)
    (checkpoint / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        read_manifest(checkpoint)


def test_another_version_is_no_damage(tmp_path: Path) -> None:
    make(tmp_path, 5)
    newest = make(tmp_path, 10)
    manifest = json.loads((newest / "manifest.json").read_text())
    (newest / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(OtherFormatError, match="format 1, and this version reads 2; use the version that wrote it"):
        latest_checkpoint(tmp_path)
