"""`python -m windward_kernels.triton`: tune the kernels on this GPU, writing tuned.json for a commit."""

import json
import logging
import sys

import torch

if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here; run this on a machine with one, and commit the tuned.json that it writes")
    from triton.testing import do_bench

    from windward_kernels.triton.launch import gpu
    from windward_kernels.triton.tune import trials, tune

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tuned = tune(gpu(), trials(), lambda call: float(do_bench(call, return_mode="median")))
    sys.stdout.write(json.dumps({gpu(): tuned}) + "\n")
