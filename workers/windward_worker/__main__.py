"""`python -P -m windward_worker`."""

from windward_worker.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
