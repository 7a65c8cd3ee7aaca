import pytest
import torch
from skips import need

from windward_worker.energy import EnergyRecorder
from windward_worker.inference import CpuRunner, Engine, TorchRunner
from windward_worker.model import Decoder, ModelConfig, PackedModel, learn_bpe, open_model, save_folder


def _decoder(**changes):
    sizes = {
        "vocab_size": 300,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    made = Decoder(ModelConfig(**{**sizes, **changes}))
    made.initialise(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.dim() > 1:
                weight.mul_(20 if "lm_head" in name else 6)
    return made.requires_grad_(False)


@pytest.fixture(scope="session")
def decoder():
    """A small decoder whose greedy answers vary."""
    torch.set_num_threads(1)
    return _decoder()


@pytest.fixture(scope="session")
def make_decoder():
    return _decoder


@pytest.fixture(scope="session")
def runner_of(tmp_path_factory):
    """Runners of a decoder, by name: `cpp`, `cpp-int4`, `cpp-kv-int8` or `torch`."""

    def make(name, decoder, *, blocks=64):
        if name == "torch":
            return TorchRunner(decoder, blocks=blocks)
        need("extension")
        folder = tmp_path_factory.mktemp("model") / "m"
        save_folder(decoder, learn_bpe(["wind and sun " * 40], 300), folder)
        weights = {"cpp-int4": "int4"}.get(name, "stored")
        kv = {"cpp-kv-int8": "int8"}.get(name, "float32")
        return CpuRunner(PackedModel(open_model(folder), weights), blocks=blocks, kv=kv)

    return make


class Ticks:
    """A clock that moves a second with every look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class ConstantMeter:
    """Ten watts on a given clock."""

    component, source, max_w = "cpu", "test", 1e9

    def __init__(self, clock):
        from windward_api.contract import Method

        self.method = Method.MEASURED
        self._clock = clock

    def read_j(self):
        return 10.0 * self._clock.now

    def close(self):
        pass


@pytest.fixture
def engine_of():
    """An engine on a clock of its own, with a meter that shows ten watts."""

    def make(runner, **options):
        clock = options.pop("clock", None) or Ticks()
        recorder = EnergyRecorder([ConstantMeter(clock)], monotonic=clock)
        options.setdefault("sleep", lambda s: None)
        return Engine(runner, recorder=recorder, monotonic=clock, **options)

    return make
