# Two commands do all of their own set-up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# uv leaves modules uncompiled, and then every start compiles them anew where bytecode may not be written.
LOCKED := $(UV) --require-hashes --compile-bytecode
COMPILE := $(BIN)/python -m compileall -q crds operator workers kernels

.PHONY: help demo demo-cluster test lint types cluster-binaries system bench-demo bench-quarter bench-forecast bench-inference bench-kernels bench-serve mutation unit crds lock clean
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

demo: .venv/.worker  ## train, pause, resume, infer, receipt: on real grid data of 2022, without a network
	$(BIN)/windward demo

demo-cluster: .venv/.dev .venv/.worker system cluster-binaries  ## one label on a Job, a JobSet and a TrainJob, on a real cluster of your own
	@$(BIN)/python -P tests/cluster/demo.py

test: .venv/.dev system cluster-binaries lint  ## everything: lint, types, unit, local, database and real-cluster tests
	@$(BIN)/python tests/cluster/build.py engines > /dev/null & \
	$(BIN)/python -P -m pytest --numprocesses 2 --dist loadscope $(TESTS)

UNIT := $(addprefix tests/,api domain lifecycle managed manifests ownership forecasting/test_gaps.py grid/test_days.py \
  ledger/test_conformance.py $(addprefix layout/test_,sizes.py vocabulary.py circles.py no_shadowing.py) \
  $(addprefix planning/test_,plan.py $(addsuffix _edges.py,placer windows pauses objective rendering)) \
  $(addprefix service/test_,controller.py loop.py health.py watching.py metrics.py kube_api.py))
unit: .venv/.dev  ## the fast tests: under a minute on two cores
	$(BIN)/python -P -m pytest -q --numprocesses 2 --dist loadscope $(UNIT)

lint: .venv/.dev types  ## style, types, floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.dev
	$(BIN)/mypy

system:  ## Debian packages for real nodes and PostgreSQL, where we are root and they are missing
	@sh tests/cluster/install-node-packages.sh

cluster-binaries: .venv/.dev  ## Kubernetes, KWOK and Helm from Go modules, once, into the user's cache
	@$(BIN)/python tests/cluster/build.py || { test -z "$$CI$$WINDWARD_NO_SKIP" && echo 'cluster tests will be skipped'; }

bench-demo: .venv/.dev  ## figures of the demo, and of the operator's memory on a real API server; ends with JSON
	@$(BIN)/python tests/bench/demo.py

JOBS ?= 600
SEED ?= 0
bench-quarter: .venv/.dev  ## a simulated quarter with faults, each receipt verified by a stranger; one line of JSON
	@$(BIN)/python -P tests/bench/quarter.py --jobs $(JOBS) --seed $(SEED)

DATA ?= data
bench-forecast: .venv/.dev  ## share of the possible saving that our forecaster keeps, on DATA=folder; one line of JSON
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/bench/forecast.py $(FLAGS) $(DATA)

bench-inference: .venv/.dev  ## figures of the inference engine beside its peers (LLAMA=FOLDER with node-llama-cpp's node_modules)
	@LLAMA="$(LLAMA)" $(BIN)/python tests/bench/inference.py

bench-kernels: .venv/.dev  ## each operation against this machine's roofline and torch's (FLAGS='--only linear'); one line of JSON
	@$(BIN)/python -P tests/bench/kernels.py $(FLAGS)

bench-serve: .venv/.dev  ## the server under 200 streams for five minutes (FLAGS='--seconds 60 --smollm2'); one line of JSON
	@OMP_NUM_THREADS=1 $(BIN)/python -P tests/bench/serve.py $(FLAGS)

ONLY ?=
MIP_S ?= 60
bench-planner: .venv/.dev  ## figures of the fleet planner: DATA=folder ONLY=p3,p8 MIP_S=60 GAIA=folder CURVES=folder
	@test -n "$(DATA)" || { echo 'give DATA=folder: carbon/ and jobs/, and forecast/ for p8'; exit 2; }
	@$(BIN)/python tests/bench/planner/main.py --data '$(DATA)' --only '$(ONLY)' --mip-s $(MIP_S) $(if $(GAIA),--gaia '$(GAIA)') $(if $(GAIA_PYTHON),--gaia-python '$(GAIA_PYTHON)') $(if $(CURVES),--curves '$(CURVES)') $(ARGS)

SAMPLE ?= 0
mutation: .venv/.dev  ## would a test notice a change? scores of five files (SAMPLE=150 SEED=0 ONLY=decide); one line of JSON
	@OMP_NUM_THREADS=1 $(BIN)/python -P tests/bench/mutation.py --sample $(SAMPLE) --seed $(SEED) --only '$(ONLY)'

crds: .venv/.dev  ## write the CRDs and docs/reference.md from the models, and the chart's checked copy
	$(BIN)/python -m windward_api
	$(BIN)/python tests/chart/sync_crds.py

lock: .venv/.dev  ## write requirements/*.txt anew from pyproject.toml
	sh requirements/lock.sh

clean:  ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/.base: requirements/uv.txt requirements/build.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Windward needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt -r requirements/build.txt
	@touch $@

.venv/.worker: .venv/.base requirements/worker.txt pyproject.toml
	@echo 'installing the worker: torch alone is 4.7 GB, a minute or two'
	@test -f .venv/.dev || $(LOCKED) -r requirements/worker.txt
	@test -f .venv/.dev || $(UV) --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

.venv/.dev: .venv/.base requirements/dev.txt requirements/model.txt pyproject.toml
	@echo 'installing everything for tests: torch alone is 4.7 GB, a minute or two'
	$(LOCKED) -r requirements/dev.txt
	$(LOCKED) --no-deps -r requirements/model.txt
	$(UV) --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@
