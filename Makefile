# Everything that is done with this tree; each target does its own set-up.
# PYTHON=/path/to/python3.12 makes rehearse, bench and lint use that one instead of the newest the machine has.

.DEFAULT_GOAL := help
.PHONY: help test test-kills test-machines test-worlds explore packages rehearse rehearse-all bench bench-upload docs lint clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

test: ## run every test on every Python from 3.10 on that this machine has
	@tests/run $(ARGS)

test-kills: ## kill uploads at random moments, 20 runs of ten deaths (KILLS=100 for more)
	@venv=$$(tests/setup venv test) && LIFECYCLE_AGENT_KILLS=$${KILLS:-20} "$$venv/bin/python" -m pytest -q -p no:cacheprovider tests/contract/test_upload_kill.py $(ARGS)

test-machines: ## run the tests that boot a machine, on every Debian that they know
	@tests/setup packages
	@venv=$$(tests/setup venv test) && LIFECYCLE_AGENT_MACHINES=$${LIFECYCLE_AGENT_MACHINES:-all} "$$venv/bin/python" -m pytest -q -p no:cacheprovider tests/machine $(ARGS)

explore: ## visit every state that can be reached around the agent's own rules, and hold the invariants in each (a quarter of an hour on two processors; ARGS="spot" for one)
	@venv=$$(tests/setup venv test) && "$$venv/bin/python" -m tests.explore --wide $(ARGS)

test-worlds: ## the real agent in EXAMPLES=200 random lives of an instance (SEED=7 repeats them)
	@venv=$$(tests/setup venv test) && LIFECYCLE_AGENT_WORLDS=$${EXAMPLES:-200} LIFECYCLE_AGENT_SEED=$${SEED:-$$(date +%s)} "$$venv/bin/python" -m pytest -p no:cacheprovider tests/worlds/test_worlds.py $(ARGS)

packages: ## a deb and an rpm in dist/ (ARCH=arm64 for the other architecture)
	@packaging/build $(ARGS)

rehearse: ## watch the agent save a live app on this machine (options: ARGS="--speed 1")
	@venv=$$(tests/setup venv rehearsal) && "$$venv/bin/lifecycle-agent" rehearse $(ARGS)

rehearse-all: ## every way in which an instance comes and goes, one after the other
	@venv=$$(tests/setup venv rehearsal) && "$$venv/bin/lifecycle-agent" rehearse --scenario all $(ARGS)

bench: ## measure memory, start-up time and reaction time, each beside its target
	@venv=$$(tests/setup venv test) && "$$venv/bin/python" tests/bench $(ARGS)

bench-upload: ## measure log uploads beside what people use instead (needs root; options: ARGS="--links 1000,unshaped")
	@venv=$$(tests/setup venv test) && "$$venv/bin/python" tests/bench/upload $(ARGS)

docs: ## write docs/decisions.md from the code
	@venv=$$(tests/setup venv test) && "$$venv/bin/python" docs/decisions.py

lint: ## ruff and mypy alone
	@venv=$$(tests/setup venv test) && "$$venv/bin/python" -m pytest -q tests/unit/test_lint.py tests/unit/test_layers.py

clean: ## remove the packages, the virtual environments and caches
	@rm -rf dist build agent/*.egg-info .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis
