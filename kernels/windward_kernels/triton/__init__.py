"""Triton kernels: compiled for a GPU, or run by Triton's interpreter where TRITON_INTERPRET=1 (tests without a GPU).

Importing this registers them as fast paths. `windward_kernels` does so only where a GPU or the interpreter is at hand;
triton reads its variable when it is imported, so the choice is made once.
"""

from windward_kernels.triton import paths

__all__ = ["paths"]
