"""Batch inference that resumes by line."""

from windward_worker.inference.engine import Answer, Batch
from windward_worker.inference.run import infer

__all__ = ["Answer", "Batch", "infer"]
