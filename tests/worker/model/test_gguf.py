"""GGUF as its definition has it: an own writer, an own dequantisation, damaged files."""

import struct

import numpy as np
import pytest
import torch

from windward_worker.control import Refused
from windward_worker.model import load_gguf
from windward_worker.model.families.dense_gguf import GGUF_LAYER, half_split_order
from windward_worker.model.gguf import GgufFile

F32, F16, Q4_0, Q4_1, Q8_0 = 0, 1, 2, 3, 8


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item):
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, list):
        kind = 8 if isinstance(item[0], str) else 5
        body = b"".join(string(x) if kind == 8 else struct.pack("<i", x) for x in item)
        return struct.pack("<IIQ", 9, kind, len(item)) + body
    return struct.pack("<II", 4, item)


def gguf(metadata, tensors, version=3):
    """A file from {name: (shape outermost first, type, bytes)}."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(string(k) + value(v) for k, v in metadata.items())
    data = b""
    for name, (shape, kind, raw) in tensors.items():
        head += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", kind, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    return head + b"\0" * (-len(head) % 32) + data


def quantised(kind, dice):
    """A block of 32 values: its bytes, and the values by the format's definition, one by one."""
    d, m = np.float16(dice.uniform(0.01, 0.2)), np.float16(dice.uniform(-1, 1))
    if kind == Q8_0:
        q = dice.integers(-128, 128, 32)
        return d.tobytes() + bytes(int(x) & 0xFF for x in q), [float(d) * int(x) for x in q]
    q = dice.integers(0, 16, 32)
    packed = bytes(int(q[i]) | int(q[i + 16]) << 4 for i in range(16))
    if kind == Q4_0:
        return d.tobytes() + packed, [float(d) * (int(x) - 8) for x in q]
    return d.tobytes() + m.tobytes() + packed, [float(d) * int(x) + float(m) for x in q]


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
def test_dequantisation_by_definition(tmp_path, kind):
    blocks = [quantised(kind, np.random.default_rng(seed)) for seed in range(6)]
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({}, {"first": ((4,), F32, b"\0" * 16), "t": ((3, 64), kind, b"".join(b for b, _ in blocks))}))
    got = GgufFile(path).tensor("t")
    assert got.dtype == np.float32 and got.shape == (3, 64)
    np.testing.assert_allclose(got.reshape(6, 32), [v for _, v in blocks], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "dtype"), [(F32, np.float32), (F16, np.float16)])
def test_unquantised_tensors_are_read(tmp_path, kind, dtype):
    given = np.random.default_rng(0).normal(size=(3, 5)).astype(dtype)
    (tmp_path / "m.gguf").write_bytes(gguf({"general.alignment": 32}, {"t": ((3, 5), kind, given.tobytes())}))
    np.testing.assert_array_equal(GgufFile(tmp_path / "m.gguf").tensor("t"), given.astype(np.float32))


def test_metadata_of_all_kinds_is_read(tmp_path):
    metadata = {"a": "wörd", "b": 7, "c": 0.5, "d": ["x", "yy"], "e": [1, -2, 3]}
    (tmp_path / "m.gguf").write_bytes(gguf(metadata, {}, version=2))
    assert GgufFile(tmp_path / "m.gguf").metadata == metadata


def interleave(weight, heads):
    """What GGUF's writer does to query and key weights: Hugging Face order to adjacent pairs."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def test_a_gguf_model_comes_back_with_the_same_logits(tiny, tokenizer, tmp_path):
    """Written as GGUF's writer would, a decoder comes back with the same logits."""
    decoder = tiny()
    config, weights = decoder.config, decoder.state_dict()
    tensors = {"token_embd.weight": weights["embed_tokens.weight"], "output_norm.weight": weights["norm.weight"]}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in GGUF_LAYER.items():
            if f"layers.{layer}.{ours}.weight" not in weights:
                continue  # another family's
            weight = weights[f"layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = interleave(
                    weight, config.num_attention_heads if theirs == "attn_q" else config.num_key_value_heads
                )
            tensors[f"blk.{layer}.{theirs}.weight"] = weight
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    merges = [" ".join(m) for m in __import__("json").loads(tokenizer.to_str())["model"]["merges"]]
    metadata = {
        "general.architecture": "llama",
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.context_length": config.max_position_embeddings,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1),
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.bos_token_id": 0,
    }
    raw = {n: (tuple(w.shape), F32, w.numpy().astype("<f4").tobytes()) for n, w in tensors.items()}
    (tmp_path / "m.gguf").write_bytes(gguf(metadata, raw))
    back = load_gguf(tmp_path / "m.gguf")
    given = torch.tensor([[3, 1, 200, 7, 7, 12]])
    assert torch.equal(back.decoder(given), decoder(given))
    text = "sun again, 2024"
    assert back.tokenizer.encode(text).ids == tokenizer.encode(text).ids
    assert back.tokenizer.decode(tokenizer.encode(text).ids) == text
    (tmp_path / "m.gguf").write_bytes(gguf({**metadata, "general.architecture": "gpt2"}, raw))
    with pytest.raises(Refused, match="architecture 'gpt2'"):
        load_gguf(tmp_path / "m.gguf")


def test_permutation_is_the_inverse_of_the_writers():
    weight = torch.arange(48.0).view(12, 4)
    assert torch.equal(interleave(weight, 2)[half_split_order(weight.shape[0], 2)], weight)
    assert not torch.equal(interleave(weight, 2), weight)


def test_both_rotary_orders_give_the_same_scores():
    """Adjacent-pair rotation of the stored rows equals half-split rotation of the permuted rows, score for score."""
    from windward_kernels import rope, rope_table

    heads, size = 2, 8
    stored_q, stored_k, x = torch.randn(16, 6), torch.randn(16, 6), torch.randn(5, 6)
    cos, sin = rope_table(torch.arange(5), size, 100.0)

    def adjacent(weight):
        y = (x @ weight.T).view(5, heads, size).transpose(0, 1)  # (H, T, D)
        a, b = y[..., 0::2], y[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)

    def half(weight):
        y = (x @ weight[half_split_order(weight.shape[0], heads)].T).view(1, 5, heads, size).transpose(1, 2)
        return rope(y, cos, sin)[0]

    expected = adjacent(stored_q) @ adjacent(stored_k).transpose(1, 2)
    torch.testing.assert_close(half(stored_q) @ half(stored_k).transpose(1, 2), expected, rtol=1e-4, atol=1e-4)


def k_block(dice):
    """A Q4_K block of 256 values: its bytes, and the values by the format's definition, one by one."""
    d, e = np.float16(dice.uniform(0.001, 0.02)), np.float16(dice.uniform(0.001, 0.02))
    scale, minimum = dice.integers(0, 64, 8), dice.integers(0, 64, 8)
    codes = dice.integers(0, 16, (8, 32))
    packed = [0] * 12
    for j in range(4):
        packed[j] = int(scale[j]) | int(scale[j + 4]) >> 4 << 6
        packed[j + 4] = int(minimum[j]) | int(minimum[j + 4]) >> 4 << 6
        packed[j + 8] = int(scale[j + 4]) & 15 | (int(minimum[j + 4]) & 15) << 4
    nibbles = bytes(int(codes[2 * i][k]) | int(codes[2 * i + 1][k]) << 4 for i in range(4) for k in range(32))
    raw = d.tobytes() + e.tobytes() + bytes(packed) + nibbles
    return raw, [
        float(d) * int(scale[g]) * int(codes[g][k]) - float(e) * int(minimum[g]) for g in range(8) for k in range(32)
    ]


def test_q4_k_by_definition_and_as_q4_1(tmp_path):
    from windward_worker.model.gguf import q4_k_as_q4_1

    blocks = [k_block(np.random.default_rng(seed)) for seed in range(6)]
    (tmp_path / "m.gguf").write_bytes(gguf({}, {"t": ((3, 512), 12, b"".join(raw for raw, _ in blocks))}))
    file = GgufFile(tmp_path / "m.gguf")
    expected = np.array([v for _, values in blocks for v in values], np.float32).reshape(3, 512)
    np.testing.assert_allclose(file.tensor("t"), expected, rtol=1e-5, atol=1e-6)
    again = q4_k_as_q4_1(file.raw("t")[1])
    (tmp_path / "n.gguf").write_bytes(gguf({}, {"t": ((3, 512), Q4_1, again.tobytes())}))
    np.testing.assert_allclose(GgufFile(tmp_path / "n.gguf").tensor("t"), expected, atol=2e-3 * np.abs(expected).max())


GOOD = gguf({"a": "b"}, {"t": ((2, 32), Q8_0, b"\1" * 68)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GG",
        b"PK\3\4" + GOOD[4:],
        GOOD[:4] + struct.pack("<I", 1) + GOOD[8:],
        GOOD[:8] + struct.pack("<Q", 1 << 60) + GOOD[16:],  # tensors
        GOOD[:16] + struct.pack("<Q", 1 << 60) + GOOD[24:],  # entries
        GOOD[:24] + struct.pack("<Q", 1 << 62) + GOOD[32:],  # length of a string
        GOOD[:-60],
        GOOD.replace(struct.pack("<IQ", Q8_0, 0), struct.pack("<IQ", Q8_0, 1 << 40)),
        GOOD.replace(struct.pack("<IQ", Q8_0, 0), struct.pack("<IQ", 99, 0)),
        GOOD.replace(struct.pack("<QQ", 32, 2), struct.pack("<QQ", 31, 2)),
        GOOD.replace(struct.pack("<QQ", 32, 2), struct.pack("<QQ", 32, 1 << 58)),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, data):
    assert data != GOOD
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(Refused, match="not a readable GGUF"):
        GgufFile(tmp_path / "m.gguf")


def test_every_cut_is_noticed(tmp_path):
    padding = 96 - 68  # behind the last tensor, which nobody misses
    for length in range(0, len(GOOD) - padding, 7):
        (tmp_path / "m.gguf").write_bytes(GOOD[:length])
        with pytest.raises(Refused):
            GgufFile(tmp_path / "m.gguf")
