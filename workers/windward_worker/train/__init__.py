"""Training that pauses and resumes exactly: a `Trainer` for any model, loss and hooks, and pretraining as its user."""

from windward_worker.train.corpus import Corpus, Windows, open_corpus
from windward_worker.train.hooks import BaseHook, CheckpointHook, PauseHook
from windward_worker.train.pretrain import NextTokenLoss, bits_per_byte, pretraining
from windward_worker.train.run import measure, train
from windward_worker.train.trainer import Hook, Schedule, Trainer, learning_rate

__all__ = [
    "BaseHook",
    "CheckpointHook",
    "Corpus",
    "Hook",
    "NextTokenLoss",
    "PauseHook",
    "Schedule",
    "Trainer",
    "Windows",
    "bits_per_byte",
    "learning_rate",
    "measure",
    "open_corpus",
    "pretraining",
    "train",
]
