"""The judge: what follows from what is observed and planned. Pure; one state machine for cluster and laptop."""

from windward.lifecycle.accounting import Account, account, energy_of_run
from windward.lifecycle.decide import decide
from windward.lifecycle.status import status_of
from windward.lifecycle.work import progress_of, work_of

__all__ = ["Account", "account", "decide", "energy_of_run", "progress_of", "status_of", "work_of"]
