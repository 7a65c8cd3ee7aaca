"""Where answers end and prompts begin, as the files of current models say it."""

import json

import pytest
import torch

from windward_worker.control import Refused
from windward_worker.inference import Engine, Request, open_runner
from windward_worker.model import open_model, save_folder
from windward_worker.model.families import for_gguf
from windward_worker.model.stored import CONFIG
from windward_worker.model.tokenizer import from_gguf

PROMPT = (5, 40, 7, 99, 12)


@pytest.fixture
def folder(tiny, tokenizer, tmp_path):
    """A model folder; `edit` sets fields of one of its files."""
    save_folder(tiny(tie_word_embeddings=False), tokenizer, tmp_path / "m")

    def edit(file=CONFIG, **fields):
        path = tmp_path / "m" / file
        document = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**document, **fields}))
        return tmp_path / "m"

    return edit


def answer(path):
    opened = open_runner(path, blocks=20, weights="float32", kv="float32")
    engine = Engine(opened.runner)
    (made,) = engine.generate([Request(PROMPT, 12)])
    engine.close()
    return made


@pytest.mark.parametrize("where", ["one in config.json", "a list", "generation_config.json", "none"])
def test_every_end_token_ends_an_answer_as_in_transformers(folder, where):
    from transformers import LlamaForCausalLM

    free = answer(folder(eos_token_id=None)).tokens
    last = free[4]
    if where == "one in config.json":
        path = folder(eos_token_id=last)
    elif where == "a list":
        path = folder(eos_token_id=[319, last])
    elif where == "generation_config.json":
        path = folder(eos_token_id=319)
        folder("generation_config.json", eos_token_id=[318, last])
    else:
        path = folder(eos_token_id=-1)  # as some write it
        theirs = None
    made = answer(path)
    if where == "none":
        assert made.tokens == free
        return
    theirs = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs.generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=12, pad_token_id=0)
    expected = expected[0, len(PROMPT) :].tolist()
    assert last in free[:5] and [*made.tokens, last] == expected and made.finish_reason.value == "stop"


def test_several_ends_survive_export(folder, tmp_path):
    from windward_worker.model import load_path

    loaded = load_path(folder(eos_token_id=[3, 9, 3]))
    assert loaded.decoder.config.stop_token_ids == {3, 9}
    save_folder(loaded.decoder, loaded.tokenizer, tmp_path / "again")
    assert open_model(tmp_path / "again").config.stop_token_ids == {3, 9}


@pytest.mark.parametrize(
    "saved",
    [
        {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
                "pad_type_id": 0, "pad_token": "a",
            }
        },
    ],
    ids=["truncation", "padding"],
)  # fmt: skip
def test_a_prompt_is_neither_cut_nor_padded(folder, tokenizer, saved):
    text = "wind and sun and wind again, 2024 times"
    file = open_model(folder("tokenizer.json", **saved))
    assert file.tokenizer().encode(text).ids == tokenizer.encode(text).ids


def test_special_tokens_come_under_their_names(folder):
    path = folder("tokenizer_config.json", eos_token={"content": "<|im_end|>"}, pad_token="<pad>", unk_token=None)
    assert open_model(path).special_tokens() == {"eos_token": "<|im_end|>", "pad_token": "<pad>"}


BYTES = [chr(c) for c in range(33, 127)]
GGUF = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.block_count": 1,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": BYTES,
    "tokenizer.ggml.merges": [],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def test_gguf_names_ends_of_texts_and_turns():
    more = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 2}
    assert for_gguf("llama").read_gguf({**GGUF, **more}, tied=True).stop_token_ids == {2, 5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scale_linear", 0.25),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.dimension_count", 8),
        ("llama.attention.value_length", 8),
        ("llama.logit_scale", 0.1),
        ("llama.expert_count", 8),
        ("split.count", 2),
        ("general.architecture", "gemma3"),
    ],
)
def test_gguf_metadata_that_is_not_computed_is_refused(key, value):
    with pytest.raises(Refused) as refused:
        metadata = {**GGUF, key: value}
        for_gguf(metadata["general.architecture"]).read_gguf(metadata, tied=True)
    assert str(value) in str(refused.value)


def test_gguf_may_ask_for_a_begin_token_in_front():
    assert from_gguf(GGUF).encode("ab").ids == [64, 65]
    assert from_gguf({**GGUF, "tokenizer.ggml.add_bos_token": True}).encode("ab").ids == [1, 64, 65]
    with pytest.raises(Refused, match="add_eos_token"):
        from_gguf({**GGUF, "tokenizer.ggml.add_eos_token": True})


def test_qwen2s_words_are_those_of_transformers():
    from transformers import Qwen2Tokenizer

    text = "It's 2024; naïve\u0301 cafe\u0301!  \n\n  x=12345 日本 I'LL"
    ours = from_gguf({**GGUF, "tokenizer.ggml.pre": "qwen2"})
    theirs = Qwen2Tokenizer(vocab={t: i for i, t in enumerate(BYTES)} | {"<|endoftext|>": 200}, merges=[])
    theirs = theirs.backend_tokenizer if hasattr(theirs, "backend_tokenizer") else theirs._tokenizer
    words = [t.pre_tokenizer.pre_tokenize_str(t.normalizer.normalize_str(text)) for t in (ours, theirs)]
    assert words[0] == words[1] and len(words[0]) > 15
