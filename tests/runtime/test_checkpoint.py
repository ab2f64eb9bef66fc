"""Checkpoints: exact, written atomically, and loaded without running code."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch

from fewshot.errors import CheckpointError
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint


def state() -> dict:
    images = torch.randn(2, 3, 4, 4)
    return {
        "tensors": {"plain": images, "last": images.to(memory_format=torch.channels_last), "step": torch.tensor(3)},
        "half": torch.ones(2, dtype=torch.bfloat16),
        "optimizer": {"state": {0: {"m": torch.zeros(3)}, 7: {"m": torch.ones(3)}}, "betas": [0.9, 0.999]},
        "ordered": OrderedDict(a=1.5, b=None),
        "text": "ü",
        "flag": True,
        "big": 0.1 + 0.2,
    }


def test_everything_comes_back_exactly(tmp_path):
    saved = state()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    for name, tensor in saved["tensors"].items():
        assert torch.equal(loaded["tensors"][name], tensor)
        assert loaded["tensors"][name].stride() == tensor.stride(), name
    assert loaded["half"].dtype is torch.bfloat16
    assert torch.equal(loaded["optimizer"]["state"][7]["m"], torch.ones(3))
    assert set(loaded["optimizer"]["state"]) == {0, 7}
    assert loaded["ordered"] == {"a": 1.5, "b": None}
    assert (loaded["text"], loaded["flag"], loaded["big"]) == ("ü", True, 0.1 + 0.2)
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_what_cannot_be_held_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot hold state\.a\.b: object"):
        save_checkpoint(tmp_path / "c", {"a": {"b": object()}})


def test_truncated_foreign_missing(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"c\.safetensors is no readable checkpoint"):
            load_checkpoint(path)
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"is no fewshot-checkpoint-1$"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none")


def test_a_malicious_pickle_is_never_executed(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "c.safetensors"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(path)
    torch.save(Attack(), path)
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Attack()))  # it would have worked
    assert (tmp_path / "executed").exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    """The kernel refuses to write beyond a file-size limit, as it does on a full disk."""
    code = f"""
import resource, signal, torch
from fewshot.runtime.checkpoint import save_checkpoint
from fewshot.errors import CheckpointError
path = {str(tmp_path / "c.safetensors")!r}
save_checkpoint(path, {{"w": torch.zeros(10)}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint(path, {{"w": torch.ones(100_000)}})
except CheckpointError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "File too large" in output
    assert "the previous file is unchanged" in output
    assert torch.equal(load_checkpoint(tmp_path / "c.safetensors")["w"], torch.zeros(10))
    assert os.listdir(tmp_path) == ["c.safetensors"]
