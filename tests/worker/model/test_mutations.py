"""Model files from outside: what is wrong in them is refused in our words, whatever it is, and kills nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from windward_worker.control import Refused
from windward_worker.model import open_model
from windward_worker.model.stored import CONFIG

HERE = Path(__file__).parent


def test_mutated_files_are_refused_or_run(tmp_path):
    """Seconds of GGUF files, config.json, safetensors and tokenizer.json with bytes or fields changed."""
    command = [sys.executable, "-P", str(HERE / "mutate.py"), os.environ.get("WINDWARD_FUZZ_S", "3"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["refused"] > 20 and counts["runs"] > 5, counts


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mistral", "sliding_window": 1 << 31}, "sliding window of 2147483648"),
        ({"model_type": "mistral", "sliding_window": 1.5}, "sliding_window 1.5"),
        ({"num_hidden_layers": 1 << 21}, "2097152 layers, but 20 tensors"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers '2'"),
        ({"num_hidden_layers": True}, "num_hidden_layers True"),
        ({"max_position_embeddings": 0}, "size out of range"),
        ({"head_dim": 1 << 40}, "size out of range"),
        ({"rms_norm_eps": float("nan")}, "norm epsilon nan"),
        ({"rope_theta": 1e39}, "rope base 1e+39"),
        ({"rope_theta": "10000"}, "rope_theta '10000'"),
        ({"eos_token_id": 320}, "eos token 320 is outside the vocabulary of 320"),
        ({"eos_token_id": [0, 1 << 31]}, "eos token 2147483648"),
        ({"bos_token_id": "<s>"}, "bos_token_id '<s>'"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'"),
        ({"rope_parameters": 7}, "rope_parameters 7"),
    ],
)
def test_a_number_out_of_range_is_named(tiny, tokenizer, tmp_path, change, named):
    from windward_worker.model import save_folder

    save_folder(tiny(), tokenizer, tmp_path / "m")
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    (tmp_path / "m" / CONFIG).write_text(json.dumps({**document, **change}))
    with pytest.raises(Refused) as refused:
        open_model(tmp_path / "m")
    assert named in str(refused.value) and ";" in str(refused.value)


def test_a_context_beyond_all_models_is_capped(tiny, tokenizer, tmp_path):
    from windward_worker.model import save_folder

    save_folder(tiny(), tokenizer, tmp_path / "m")
    document = json.loads((tmp_path / "m" / CONFIG).read_text())
    (tmp_path / "m" / CONFIG).write_text(json.dumps({**document, "max_position_embeddings": 1 << 60}))
    assert open_model(tmp_path / "m").config.max_position_embeddings == 1 << 22


@pytest.mark.parametrize("error", [IndexError("x"), OverflowError("x"), OSError(5, "I/O"), MemoryError()])
def test_whatever_a_library_raises_is_a_refusal(tmp_path, monkeypatch, error):
    from windward_worker.model import stored

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(stored.gguf, "GgufFile", lambda path: (_ for _ in ()).throw(error))
    with pytest.raises(Refused, match=r"m\.gguf: .*; "):
        open_model(tmp_path / "m.gguf")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_model_with_nan_is_refused_by_the_name_of_the_weight(tiny, tokenizer, tmp_path, bad, dtype):
    """It was served, and answered with garbage in silence."""
    import torch
    from safetensors.torch import load_file, save_file

    from windward_worker.inference import open_runner
    from windward_worker.model import load_path, save_folder

    save_folder(tiny(), tokenizer, tmp_path / "m")
    weights = {k: v.to(getattr(torch, dtype)) for k, v in load_file(tmp_path / "m" / "model.safetensors").items()}
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    open_runner(tmp_path / "m", blocks=4)
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = bad
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    for opening in (lambda: open_runner(tmp_path / "m", blocks=4), lambda: load_path(tmp_path / "m")):
        with pytest.raises(Refused, match=r"layers\.1\.mlp\.down_proj\.weight holds NaN or infinity"):
            opening()


@pytest.mark.parametrize("encoding", ["Q4_0", "Q4_1", "Q8_0", "Q4_K"])
def test_a_block_whose_scale_is_none_is_seen(encoding):
    import numpy as np

    from windward_worker.model.gguf import ENCODINGS
    from windward_worker.model.stored import StoredTensor

    each = next(e for e in ENCODINGS.values() if e.name == encoding)
    raw = np.zeros(3 * each.bytes, np.uint8)
    raw[each.bytes + 2 : 2 * each.bytes] = 0xFF if encoding in ("Q4_0", "Q8_0") else 0  # codes may be anything
    stored = StoredTensor(encoding, raw, (3, each.values))
    assert stored.finite() is True
    raw[2 * each.bytes + 1] = 0x7C
    raw[2 * each.bytes] = 0
    assert stored.finite() is False
