"""Llama, Mistral, Qwen2 and Qwen3 as transformers computes them: in torch and in the compiled runner."""

import dataclasses
import json

import pytest
import torch
from skips import needs

from windward_kernels import cpp
from windward_worker.control import Refused
from windward_worker.inference import CpuRunner, SequenceInput
from windward_worker.model import PackedModel, load_path, open_model, save_folder
from windward_worker.model.families import read_config, write_config

TOKENS = [1, 7, 300, 2, 2, 45, 99, 10, 11, 5, 4, 3, 2, 1, 9, 8, 7, 250, 251, 252]
FAMILIES = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 7},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 32},
}


def theirs(folder, dtype=None):
    from transformers import AutoModelForCausalLM

    # The eager path: other paths of some versions leave the window out on CPUs.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0]


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys())
def folder(request, tiny, tokenizer, tmp_path):
    decoder = tiny(**request.param)
    save_folder(decoder, tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_torch_agrees_with_transformers(folder):
    expected = theirs(folder)
    with torch.no_grad():
        got = load_path(folder).decoder(torch.tensor([TOKENS]))[0]
    assert (got - expected).abs().max() / expected.abs().max() < 1e-4
    assert expected.std() > 0.1, "a constant would agree with anything"


@needs("extension")
@pytest.mark.parametrize("parts", [[20], [1] * 20, [9, 1, 10]])
def test_the_compiled_runner_agrees_with_transformers(folder, parts):
    expected = theirs(folder)
    runner, place, got = CpuRunner(PackedModel(open_model(folder)), blocks=4, kv="float32"), 0, []
    for count in parts:
        logits = runner.step([SequenceInput(TOKENS[place : place + count], place, [3, 0], outputs=count)])
        got.append(torch.tensor(logits))  # a copy: the next step writes over it
        place += count
    assert (torch.cat(got) - expected).abs().max() / expected.abs().max() < 1e-4


def test_a_config_comes_back_as_it_was(folder):
    config = open_model(folder).config
    assert read_config(write_config(config)) == config
    assert config.num_parameters == sum(w.numel() for w in load_path(folder).decoder.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_sharded_weights_open(tiny, tokenizer, tmp_path, dtype):
    """Half-width files in two shards with an index, as large models come."""
    from safetensors.torch import load_file, save_file

    save_folder(tiny(), tokenizer, tmp_path / "m")
    weights = {k: v.to(dtype) for k, v in load_file(tmp_path / "m" / "model.safetensors").items()}
    (tmp_path / "m" / "model.safetensors").unlink()
    names, where = sorted(weights), {}
    for shard, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({n: weights[n] for n in part}, tmp_path / "m" / shard, metadata={"format": "pt"})
        where |= dict.fromkeys(part, shard)
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    expected = theirs(tmp_path / "m")
    with torch.no_grad():
        got = load_path(tmp_path / "m").decoder(torch.tensor([TOKENS]))[0]
    assert (got - expected).abs().max() / expected.abs().max() < 1e-4
    if cpp.available():
        model = PackedModel(open_model(tmp_path / "m"))
        assert model.weights["embed_tokens"].stored == {torch.bfloat16: "bfloat16", torch.float16: "float16"}[dtype]
        packed = CpuRunner(model, blocks=2, kv="float32").step([SequenceInput(TOKENS, 0, [0, 1], outputs=20)])
        assert (torch.from_numpy(packed) - expected).abs().max() / expected.abs().max() < 1e-4
    index.write_text(json.dumps({"weight_map": {**where, names[0]: "../a.safetensors"}}))
    with pytest.raises(Refused, match="not in the folder"):
        load_path(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4}, "use_sliding_window"),
        ({"model_type": "mistral", "sliding_window": 0}, "window of 0"),
        ({"model_type": "mamba"}, "model_type 'mamba'"),
    ],
)
def test_what_is_not_computed_is_refused(tiny, change, words):
    with pytest.raises(Refused, match=words):
        read_config({**write_config(tiny().config), **change})


def test_a_switched_off_window_is_none(tiny):
    named = {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}
    assert read_config({**write_config(tiny().config), **named}).sliding_window is None
    assert (
        read_config({**write_config(tiny().config), "model_type": "mistral", "sliding_window": None}).sliding_window
        is None
    )


def test_features_of_two_families_do_not_mix(tiny):
    with pytest.raises(Refused, match="do not go together"):
        dataclasses.replace(tiny().config, qk_norm=True, qkv_bias=True)


@needs("extension")
@pytest.mark.parametrize(("scheme", "least", "most"), [("float32", 0, 1e-4), ("int8", 1e-4, 0.05), ("int4", 1e-2, 0.6)])
def test_weights_may_be_rounded_on_the_way_in(tiny, tokenizer, tmp_path, scheme, least, most):
    save_folder(tiny(), tokenizer, tmp_path / "m")
    expected = theirs(tmp_path / "m")
    model = PackedModel(open_model(tmp_path / "m"), scheme)
    got = torch.from_numpy(
        CpuRunner(model, blocks=2, kv="float32").step([SequenceInput(TOKENS, 0, [0, 1], outputs=20)])
    )
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    assert least <= error < most, error


@needs("extension")
def test_a_scheme_or_cache_that_nobody_knows_is_named(tiny, tokenizer, tmp_path):
    save_folder(tiny(), tokenizer, tmp_path / "m")
    with pytest.raises(Refused, match="weights 'int3' are not known"):
        PackedModel(open_model(tmp_path / "m"), "int3")
    model = PackedModel(open_model(tmp_path / "m"))
    with pytest.raises(Refused, match="KV cache 'fp8'"):
        CpuRunner(model, blocks=2, kv="fp8")
    for tokens, table in (([400], [0]), ([1], [2]), ([1] * 20, [0])):
        with pytest.raises(ValueError, match=r"names a token, place or block|position has values"):
            CpuRunner(model, blocks=2).step([SequenceInput(tokens, 0, table)])
