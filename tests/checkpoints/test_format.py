"""A checkpoint is read back exactly or reported as damaged; a failed save keeps the old one."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from residual_attention.checkpoints import CheckpointError, read_checkpoint, save_checkpoint

TENSORS = {
    "a": torch.randn(3, 4).to(memory_format=torch.contiguous_format),
    "b": torch.arange(5),
    "c": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    "d": torch.tensor(7),
    "e": torch.randn(4).half(),
}


def test_tensors_and_metadata_come_back_exactly(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {"classes": ["a", "ü"], "lr": 0.1})
    tensors, metadata = read_checkpoint(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert metadata == {"format": 2, "classes": ["a", "ü"], "lr": 0.1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_one_flipped_bit_is_noticed(tmp_path, place):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.randn(1000)}, {})
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_truncated_file_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.randn(1000)}, {})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_foreign_files_are_refused_in_one_line(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.randn(3)}, foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("not a checkpoint")
    for path in (foreign, text):
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "missing.safetensors")


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.zeros(1)}, {"format": 99})
    with pytest.raises(CheckpointError, match="newer version"):
        read_checkpoint(path)


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.zeros(3)}, {})

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; the previous one is kept"):
        save_checkpoint(path, {"w": torch.ones(3)}, {})
    monkeypatch.undo()
    assert torch.equal(read_checkpoint(path)[0]["w"], torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_infinities_in_metadata_are_a_bug_not_a_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "x.safetensors", {}, {"loss": float("inf")})
    assert not list(tmp_path.iterdir())


def test_the_header_is_plain_json_without_pickle(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, TENSORS, {"classes": ["a"]})
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["residual_attention"])["classes"] == ["a"]
    assert len(header["__metadata__"]["sha256"]) == 64
