import pydoc_data.topics
from types import SimpleNamespace

import pytest
import torch

from windward_api.workload import DecoderShape, TrainData, TrainSpec
from windward_worker.compress.calibrate import windows_of
from windward_worker.control import read_env
from windward_worker.model import load_path, save_folder
from windward_worker.train.corpus import open_corpus
from windward_worker.train.pretrain import pretraining


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A decoder that has learned a little from Python's documentation, in seconds: its folder and text."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained")
    (root / "text").mkdir()
    text = root / "text" / "topics.txt"
    text.write_text("\n".join(pydoc_data.topics.topics.values())[:150_000])
    sizes = DecoderShape(layers=3, width=96, vocabulary=384, context=64)
    data = TrainData(path="text")
    spec = TrainSpec(steps=60, model=sizes, data=data, batch_size=8, learning_rate_micro=4000)
    corpus = open_corpus(data, 384, 64, read_env({"WINDWARD_STORAGE_DIR": str(root)}))
    trainer = pretraining(spec, corpus, torch.device("cpu"))
    losses = [trainer.advance() for _ in range(60)]
    assert losses[-1] < losses[0] - 1, "it has learned"
    save_folder(trainer.model, corpus.tokenizer, root / "model")
    ids = corpus.tokenizer.encode(text.read_text()).ids
    return SimpleNamespace(folder=root / "model", text=text, ids=ids, windows=windows_of(ids, 64, 24), root=root)


@pytest.fixture
def decoder(trained):
    """Freshly loaded: quantising changes it."""
    return load_path(trained.folder).decoder
