"""The registry of model families: each is found by its names and by its shape, and what is unknown is refused."""

import dataclasses
import subprocess
import sys

import pytest
from worker.conftest import PACKAGES

from windward_worker.control import Refused
from windward_worker.model import Decoder
from windward_worker.model.families import (
    FAMILIES,
    family_of,
    for_gguf,
    for_model_type,
    read_config,
    tensor_shapes,
    write_config,
)

TRAITS = {
    "llama": {},
    "mistral": {"sliding_window": 7},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
}
NAMES = ", ".join(TRAITS)


def test_every_family_is_found_by_its_own_names():
    assert [family.model_type for family in FAMILIES] == list(TRAITS)
    for family in FAMILIES:
        assert for_model_type(family.model_type) is family
        assert family.gguf_architecture is None or for_gguf(family.gguf_architecture) is family


@pytest.mark.parametrize("model_type", ["mamba", "Llama", "", None, ["llama"], 7])
def test_an_unknown_model_type_is_refused_with_the_known_ones(model_type):
    with pytest.raises(Refused, match=f"not supported; give a model of type {NAMES}$"):
        read_config({"model_type": model_type})


@pytest.mark.parametrize("architecture", ["gemma3", "mistral", None])
def test_an_unknown_gguf_architecture_is_refused_with_the_known_ones(architecture):
    with pytest.raises(Refused, match=r"not supported; use a model of architecture llama, qwen2 or qwen3$"):
        for_gguf(architecture)


@pytest.mark.parametrize("name", TRAITS)
def test_one_family_describes_a_shape_and_takes_its_own_config_back(tiny, name):
    config = dataclasses.replace(tiny().config, **TRAITS[name])
    assert [family.model_type for family in FAMILIES if family.describes(config)] == [name]
    assert write_config(config)["model_type"] == name and read_config(write_config(config)) == config


@pytest.mark.parametrize("name", TRAITS)
def test_the_blocks_of_a_family_have_the_tensors_that_it_names(tiny, name):
    decoder = Decoder(dataclasses.replace(tiny().config, **TRAITS[name]))
    assert {n: tuple(w.shape) for n, w in decoder.state_dict().items()} == tensor_shapes(decoder.config)
    family, layers = family_of(decoder.config), decoder.config.num_hidden_layers
    assert len(decoder.layers[0].state_dict()) >= family.min_tensors_per_layer
    assert set(tensor_shapes(decoder.config)) <= set(family.gguf_names(decoder.config))
    state = family.state(decoder.config)
    assert state.layers == layers and state.numbers_per_token == 2 * layers * state.heads * state.head_dim


def test_reading_a_config_needs_no_torch():
    code = "import sys, windward_worker.model.families; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = {PACKAGES}; {code}"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
