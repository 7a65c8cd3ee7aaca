"""Windward's control plane: plans, starts, pauses and accounts for the work of GreenJobs."""

import os

# The matrices here are small: threads of a linear algebra library would wait for each other most of the time (ten times
# longer where another process is busy). numpy reads this when it is loaded; whoever has set it knows better.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
