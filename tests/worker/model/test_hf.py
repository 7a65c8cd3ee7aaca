"""What we write, transformers opens; what it computes, we compute."""

import json

import pytest
import torch

from windward_worker.control import Refused
from windward_worker.model import load_path, save_folder
from windward_worker.model.config import decoder_config
from windward_worker.model.families import read_config, write_config

TOKENS = torch.tensor([[1, 7, 300, 2, 2, 45, 99, 10, 11], [5, 4, 3, 2, 1, 0, 9, 8, 7]])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "rope_theta": 500.0},
        {"head_dim": 8, "rms_norm_eps": 1e-3},
    ],
    ids=["tied", "untied", "multi-head", "one key head", "small heads"],
)
def test_transformers_opens_our_folder_and_agrees(tiny, tokenizer, tmp_path, changes):
    from transformers import AutoTokenizer, LlamaForCausalLM

    decoder = tiny(**changes)
    save_folder(decoder, tokenizer, tmp_path / "model")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        expected, got = theirs(TOKENS).logits, decoder(TOKENS)
    assert (got - expected).abs().max() / expected.abs().max() < 1e-4
    assert expected.std() > 0.1, "a constant would agree with anything"
    text = "wind and sun 42"
    assert AutoTokenizer.from_pretrained(tmp_path / "model")(text).input_ids == tokenizer.encode(text).ids


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_comes_back_as_it_was(tiny, tokenizer, tmp_path, tied):
    decoder = tiny(tie_word_embeddings=tied)
    save_folder(decoder, tokenizer, tmp_path / "model")
    save_folder(decoder, tokenizer, tmp_path / "model")  # over the older one
    back = load_path(tmp_path / "model")
    assert back.decoder.config == decoder.config
    assert torch.equal(back.decoder(TOKENS), decoder(TOKENS))
    assert back.tokenizer.encode("again").ids == tokenizer.encode("again").ids
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("parts", [[9], [1] * 9, [4, 1, 3, 1], [8, 1]])
def test_with_a_cache_the_logits_are_the_same(tiny, parts):
    from windward_worker.model import KVCache

    decoder = tiny()
    cache = KVCache(decoder.config, 2, 16, dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        whole = decoder(TOKENS)
        pieces = [decoder(piece, cache) for piece in TOKENS.split(parts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-4)
    assert cache.length == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}, "rope_parameters": None}, "rope scaling"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"hidden_size": "wide"}, "lacks or garbles"),
        ({"num_attention_heads": 0}, "lacks or garbles|out of range"),
        ({"num_hidden_layers": -1}, "out of range"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"vocab_size": 10**12}, "out of range"),
    ],
)
def test_a_config_that_we_cannot_compute_is_refused(tiny, change, words):
    with pytest.raises(Refused, match=words):
        read_config({**write_config(tiny().config), "head_dim": None, **change})


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tiny, tokenizer, tmp_path, missing):
    save_folder(tiny(), tokenizer, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(Refused, match=missing):
        load_path(tmp_path / "model")


def test_weights_of_another_shape_are_refused(tiny, tokenizer, tmp_path):
    save_folder(tiny(), tokenizer, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 128}))
    with pytest.raises(Refused, match="do not fit its config"):
        load_path(tmp_path / "model")


@pytest.mark.parametrize(
    ("width", "heads", "kv_heads"), [(32, 1, 1), (64, 2, 1), (160, 5, 1), (192, 6, 3), (256, 8, 4)]
)
def test_a_trained_shape_has_heads_of_32(width, heads, kv_heads):
    made = decoder_config(2, width, 300, 64, 0)
    assert (made.num_attention_heads, made.num_key_value_heads) == (heads, kv_heads)
    assert made.intermediate_size % 8 == 0 and made.intermediate_size >= 8 * width / 3


def test_the_parameter_count_is_the_number_of_weights(tiny):
    for tied in (True, False):
        decoder = tiny(tie_word_embeddings=tied)
        assert decoder.config.num_parameters == sum(w.numel() for w in decoder.parameters())
