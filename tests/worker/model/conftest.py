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
            "vocabulary": 320,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 16,
            "hidden": 96,
            "context": 64,
            "eos": 0,
            "bos": 0,
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
