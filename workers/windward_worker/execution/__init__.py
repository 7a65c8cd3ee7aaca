"""Running work under the contract: our own, metered and reported (run.py), or any command (supervise.py). No torch."""
