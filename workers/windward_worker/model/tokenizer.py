"""Byte-level BPE: learned from text, or rebuilt from what a model file carries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from windward_worker.control import Refused

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its thread pool would take cores that we were not given

END_OF_TEXT = "<|endoftext|>"
CONTROL_TOKEN = 3  # tokenizer.ggml.token_type
DIGITS_OF = {"smollm": True, "gpt-2": False, "default": False}  # tokenizer.ggml.pre -> digits one by one
# How Qwen 2 and 3 split a text before BPE: https://github.com/huggingface/transformers, tokenization_qwen2.py.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def learn_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE with `END_OF_TEXT` as token 0. The same texts give the same tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_bytes(tokenizer: Tokenizer) -> list[int]:
    """Bytes of text that each token stands for; special tokens stand for none. Byte-level: one character, one byte."""
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    lengths = [0] * tokenizer.get_vocab_size()
    for text, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if index in special else len(text)
    return lengths


def from_file(path: Path) -> Tokenizer:
    """The tokenizer of a model folder, without the cutting and padding that some are saved with.

    Those belong to a training's batches: a prompt is measured here, and refused where it is too long, never cut.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a GGUF file. Raises Refused for kinds other than byte-level BPE."""
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in (*DIGITS_OF, "qwen2"):
        known = ", ".join((*DIGITS_OF, "qwen2"))
        raise Refused(f"tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported; known are gpt2 with {known}")
    if metadata.get("tokenizer.ggml.add_eos_token"):
        raise Refused(
            "GGUF metadata sets add_eos_token, which ends every prompt; it is not done here: use another file"
        )
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        steps: list[Any] = [pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated")]
    else:
        steps = [pre_tokenizers.Digits(individual_digits=True)] if DIGITS_OF[pre] else []
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre != "qwen2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, words])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    special = [AddedToken(t, special=True) for t, k in zip(tokens, kinds, strict=False) if k == CONTROL_TOKEN]
    tokenizer.add_special_tokens(special)
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    if metadata.get("tokenizer.ggml.add_bos_token") and bos is not None:
        begin = tokens[bos]
        tokenizer.post_processor = processors.TemplateProcessing(single=[begin, "$A"], special_tokens=[(begin, bos)])
    return tokenizer
