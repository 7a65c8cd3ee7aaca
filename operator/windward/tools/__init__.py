"""Programs that stand alone: each is one file that imports nothing of ours, so that a stranger can read and run it."""
