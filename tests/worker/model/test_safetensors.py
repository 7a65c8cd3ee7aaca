"""A safetensors file is believed only as far as its own length allows."""

import json

import pytest
import torch
from safetensors.torch import save

from windward_worker.control import Refused
from windward_worker.model.safetensors_file import check_header, read_safetensors

DATA = save({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)})


def file(header, body=b"\0" * 32):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(shape=(8,), offsets=(0, 32), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_what_safetensors_wrote_is_read(tmp_path):
    (tmp_path / "m").write_bytes(DATA)
    assert check_header(tmp_path / "m") == {"a": ("F32", (2, 3)), "b": ("BF16", (4,))}
    assert torch.equal(read_safetensors(tmp_path / "m")["a"], torch.arange(6.0).view(2, 3))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95" + b"\0" * 40,  # a pickle
        DATA[:-1],
        DATA + b"\0",
        (1 << 62).to_bytes(8, "little") + b"{}",
        file(b"{" * 5000),
        file(b"[]"),
        file({"a": entry(shape=(9,))}),
        file({"a": entry(shape=(-2, -4))}),
        file({"a": entry(shape=(1 << 40,), offsets=(0, 1 << 42))}),
        file({"a": entry(offsets=(-32, 0))}),
        file({"a": entry(dtype="PICKLE")}),
        file({"a": entry(shape=(4,), offsets=(0, 16)), "b": entry(shape=(5,), offsets=(12, 32))}),  # overlap
        file({"a": entry(shape=(4,), offsets=(16, 32))}),  # hole
        file({"a": {"dtype": "F32"}}),
        file({"a": 3}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, data):
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(Refused):
        read_safetensors(tmp_path / "m")
