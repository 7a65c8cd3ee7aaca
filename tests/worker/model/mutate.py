"""Model files with one thing wrong, opened and run: run by test_mutations.py, and under sanitisers by test_faces.py.

`python mutate.py SECONDS FOLDER` prints a JSON line of counts. A mutated file is refused in our words, or runs: nothing
else may be raised, and nothing may kill the process.
"""

import collections
import json
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np

from windward_worker.control import Refused
from windward_worker.inference import Engine, Request, open_runner
from windward_worker.model.families.dense_gguf import GGUF_LAYER

VALUES = (
    0,
    -1,
    1,
    3,
    2**15,
    2**22,
    2**31 - 1,
    2**31,
    2**32 + 1,
    2**63,
    10**30,
    1.5,
    1e308,
    float("nan"),
    "1",
    None,
    True,
)
VALUES += ([], [0, 1], {}, {"rope_type": "default"}, [2**31], "default")
V, C, H, KV, D, F, LAYERS = 300, 32, 2, 1, 16, 32, 2


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def value(x):
    if isinstance(x, str):
        return struct.pack("<I", 8) + text(x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, list):
        return struct.pack("<IIQ", 9, 8, len(x)) + b"".join(map(text, x))
    return struct.pack("<II", 4, x)


def write_gguf(path, tokens, merges):
    shapes = {"token_embd": (V, C), "output_norm": (C,)}
    each = {"attn_norm": (C,), "ffn_norm": (C,), "attn_q": (H * D, C), "attn_k": (KV * D, C), "attn_v": (KV * D, C)}
    each |= {"attn_output": (C, H * D), "ffn_gate": (F, C), "ffn_up": (F, C), "ffn_down": (C, F)}
    assert set(each) < set(GGUF_LAYER)
    shapes |= {f"blk.{i}.{n}": s for i in range(LAYERS) for n, s in each.items()}
    metadata = {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "llama.embedding_length": C,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": F,
        "llama.attention.head_count": H,
        "llama.attention.head_count_kv": KV,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.attention.sliding_window": 9,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 0,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata))
    head += b"".join(text(k) + value(x) for k, x in metadata.items())
    data, dice = b"", np.random.default_rng(0)
    for name, shape in shapes.items():
        head += text(f"{name}.weight") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", 0, len(data))
        data += dice.standard_normal(shape, np.float32).tobytes()
    head += b"\0" * (-len(head) % 32)
    path.write_bytes(head + data)
    return len(head)


def write_folder(folder):
    from windward_worker.model import Decoder, ModelConfig, learn_bpe, save_folder

    config = ModelConfig(V, C, LAYERS, H, KV, D, F, 64, bos_token_id=0, eos_token_id=0, sliding_window=9)
    decoder, tokenizer = Decoder(config), learn_bpe(["wind and sun, 2024 times\n" * 9], V)
    decoder.initialise(1)
    save_folder(decoder, tokenizer, folder)
    return tokenizer


def bytes_of(dice, data, head):
    """The file cut short, or a few of its first bytes changed."""
    if dice.integers(0, 8) == 0:
        return data[: int(dice.integers(0, len(data)))]
    made = bytearray(data)
    for _ in range(int(dice.integers(1, 4))):
        made[int(dice.integers(0, min(head, len(made))))] = int(dice.choice([0, 1, 0x7F, 0x80, 0xFF, 0x31, 0x22]))
    return bytes(made)


def fields_of(dice, data):
    """A JSON document with one field set to something else, or taken away; fields inside objects too."""
    document = json.loads(data)
    at = document
    while True:
        name = str(dice.choice(sorted(at)))
        if isinstance(at[name], dict) and at[name] and dice.integers(0, 2):
            at = at[name]
            continue
        break
    if dice.integers(0, 10) == 0:
        del at[name]
    else:
        at[name] = VALUES[int(dice.integers(0, len(VALUES)))]
    return json.dumps(document).encode()


def attempt(path):
    """`refused` or `runs`."""
    try:
        opened = open_runner(path, blocks=8, kv="float32", context=64)
        opened.file.chat_template()
        engine = Engine(opened.runner)
        try:
            ids = opened.tokenizer.encode("wind and sun").ids or [1]
            config = opened.runner.config
            if config.max_position_embeddings > 1:
                engine.generate(
                    [
                        Request(
                            tuple(i % config.vocab_size for i in ids[: min(20, config.max_position_embeddings - 1)]), 12
                        )
                    ]
                )
        finally:
            engine.close()
    except Refused as error:
        assert 20 < len(str(error)) < 2000 and ";" in str(error), error
        return "refused"
    return "runs"


def main(seconds, root):
    root.mkdir(parents=True, exist_ok=True)
    sound, folder, file = root / "sound", root / "m", root / "m.gguf"
    tokenizer = write_folder(sound)
    merges = json.loads((sound / "tokenizer.json").read_text())["model"]["merges"]
    tokens = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda x: x[1])]
    tokens += [f"<extra{i}>" for i in range(V - len(tokens))]
    head = write_gguf(file, tokens, [" ".join(m) if isinstance(m, list) else m for m in merges])
    whole = file.read_bytes()
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    assert attempt(file) == attempt(folder) == "runs"
    counts, until, seed = collections.Counter(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        dice = np.random.default_rng(seed)
        name = str(dice.choice(["gguf", "gguf", "config.json", "config.json", "model.safetensors", "tokenizer.json"]))
        try:
            if name == "gguf":
                file.write_bytes(bytes_of(dice, whole, head))
                counts[attempt(file)] += 1
            else:
                data = (sound / name).read_bytes()
                header = 8 + int.from_bytes(data[:8], "little") if name.endswith("s") else len(data)
                fields = name.endswith("json") and dice.integers(0, 4)
                (folder / name).write_bytes(fields_of(dice, data) if fields else bytes_of(dice, data, header))
                counts[attempt(folder)] += 1
                (folder / name).write_bytes(data)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {name}") from error
        seed += 1
    assert min(counts["refused"], counts["runs"]) > 0, counts
    print(json.dumps(counts))


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(float(sys.argv[1]), Path(sys.argv[2]))
