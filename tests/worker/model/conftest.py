import pytest
import torch

from windward_worker.model import Decoder, ModelConfig, learn_bpe


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny():
    """Make a small decoder with random weights."""

    def make(**changes):
        sizes = {
            "vocab_size": 320,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 96,
            "max_position_embeddings": 64,
            "eos_token_id": 0,
            "bos_token_id": 0,
        }
        decoder = Decoder(ModelConfig(**{**sizes, **changes}))
        decoder.initialise(3)
        dice = torch.Generator().manual_seed(3)  # the same weights whatever tests ran before
        with torch.no_grad():
            for weight in decoder.parameters():
                weight.mul_(4 if weight.dim() > 1 else 1).add_(0.1 * torch.randn(weight.shape, generator=dice))
        return decoder

    return make


@pytest.fixture
def tokenizer():
    return learn_bpe(["wind and sun and wind again, 2024 times\n" * 9], 320)
