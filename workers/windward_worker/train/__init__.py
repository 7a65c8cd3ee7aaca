"""Training that pauses and resumes exactly."""

from windward_worker.train.corpus import Corpus, Windows, open_corpus
from windward_worker.train.run import measure, train
from windward_worker.train.trainer import Trainer, learning_rate

__all__ = ["Corpus", "Trainer", "Windows", "learning_rate", "measure", "open_corpus", "train"]
