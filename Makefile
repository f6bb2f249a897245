# `make demo`, `make test` and `make check` need Python >= 3.11 with venv, and nothing else: what they use they install into .venv.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
PYTEST_ARGS ?= -n 5 --dist worksteal --record-durations=.pytest_cache/durations.json
# Where it is set, each of the hundreds of processes of a run compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: demo test test-all check deploy-check image-test compat oracle soak bench generated lint format install lock clean

demo: .venv/example ## the whole story on a private Postgres
	@PYTHONPATH="$(CURDIR)/.venv/example" $(BIN)/resumed demo $(DEMO_ARGS)

# Beside the environment, not in it: a test's registry holds what the test put there.
.venv/example: .venv/installed $(shell find examples/orders -type f -not -name '*.pyc')
	@rm -rf .venv/example
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target .venv/example ./examples/orders
	@touch .venv/example

test: install ## the tests of every promise, in five minutes on two cores
	@$(BIN)/python -m pytest -m "not thorough" $(PYTEST_ARGS)

test-all: install ## all tests: each promise in every form, in ten minutes; RESUMED_TEST_ALL=1 for the exhaustive ones
	@$(BIN)/python -m pytest -m "not small" $(PYTEST_ARGS)

check: lint test-all ## everything that CI checks

# A part of `test`, by itself. Without Debian's prometheus and systemd it says what was not checked.
deploy-check: install ## the files of deployment, each by the tool that reads it
	@$(BIN)/python -m pytest tests/deploy

image-test: install ## build the images and run them once (needs root and Debian's packages; docs/image-test.md)
	@$(BIN)/python -m pytest tests/image/images.py --timeout 1800 -x -s

compat: install ## the crash points under other versions of LangGraph, which pip installs (ten minutes or more; docs/reliability.md)
	@$(BIN)/python -m pytest tests/compat/versions.py --timeout 3000 -s

generated: install ## write what is made from the code and from other files: tables of documents, the PrometheusRule
	@PYTHONPATH=tests $(BIN)/python tests/support/generated.py

# Fetches nothing of LangGraph's: LANGGRAPH names a checkout of its repository, TESTS narrows the files.
oracle: install ## LangGraph's own tests as the judge of verdicts, attempts and checkpointers (half an hour; docs/reliability.md)
	@PYTHONPATH=tests $(BIN)/python -m oracle "$(LANGGRAPH)" $(TESTS)

soak: install ## twenty minutes of random faults (SOAK_MINUTES says how many; docs/reliability.md)
	@$(BIN)/python -m pytest tests/soak/soak.py -s -x -n 0

BENCHES ?= resume_throughput shared_sessions attempt_cost death_to_resumption run_overhead discovery claim held_looks sweep_growth survey idle_cost

# DBOS is installed beside the environment: it is measured, never imported.
bench: install .venv/bench ## every benchmark, a quarter of an hour; BENCHES names some of them (docs/performance.md)
	@for bench in $(BENCHES); do echo "-- $$bench"; PYTHONPATH=bench $(BIN)/python bench/$$bench.py || exit 1; done

.venv/bench: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/bench "dbos>=3.4,<4"
	@touch .venv/bench

# Beside the environment for the same reason; tests/acceptance/test_ray.py is skipped without it.
.venv/ray: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/ray "ray>=2.60,<2.61"
	@touch .venv/ray

lint: install ## format, lint, types, imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install ## write the format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "resumed needs Python >= 3.11: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "this Python has no venv: install it with 'apt-get install python3-venv'" >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv/installed

lock: ## make both locks anew: requirements.lock for development, requirements-run.lock for the images (needs uv)
	uv pip compile --universal --python-version 3.11 pyproject.toml --all-extras --group dev --generate-hashes --no-header -o requirements.lock
	uv pip compile --universal --python-version 3.11 pyproject.toml --constraint requirements.lock --generate-hashes --no-header -o requirements-run.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
