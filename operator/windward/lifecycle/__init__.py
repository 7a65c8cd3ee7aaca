"""The judge: what follows from what is observed and planned. Pure; one state machine for cluster and laptop.

`decide` in decide.py, the planner's view of a job in work.py, what a job says of itself in status.py and events.py, the
arithmetic of grams in accounting.py and receipt.py, schedules in cron.py. Imported one by one: `windward plan` needs
one of them, and is to answer at once.
"""
