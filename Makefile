# `make book` and `make test` are all a reader needs. Works with GNU Make 3.81 (macOS) and newer.
PROFILE ?= quick
FORCE ?=
# Notebooks side by side; at paper each of them uses all cores for long.
JOBS ?= $(if $(filter paper,$(PROFILE)),1,2)
FORCED = $(if $(filter-out 0,$(FORCE)),--force)
PY := .venv/bin/python
NOTEBOOKS = $(wildcard notebooks/*.ipynb)
export PYTHON

# Exactly one word, and one of the three.
ifneq ($(words $(PROFILE))$(filter $(PROFILE),smoke quick paper),1$(PROFILE))
$(error PROFILE is "$(PROFILE)", but must be smoke, quick or paper)
endif

.PHONY: book test browse fuzz lab lint notebooks install clean help zip pdf

book: notebooks ## execute the notebooks at PROFILE and build the book
	@$(PY) -m tools.stage --profile $(PROFILE)

test: lint ## lint, unit tests, notebooks at the smoke profile, and their recomputation
	$(PY) -m pytest tests --numprocesses auto --maxprocesses 8 --dist worksteal
	@$(PY) -m tools.execute --profile smoke --jobs 2 $(FORCED)
	@$(PY) -m tools.recompute --profile smoke

browse: install ## test the built book in a browser (skipped where there is none)
	$(PY) -m pytest tests/browser --numprocesses auto --maxprocesses 4

lab: install ## open the chapters in JupyterLab, which gets an environment of its own
	@sh tools/lab.sh

fuzz: install ## attack files, downloads and runs for MINUTES (default 3), before a release
	@$(PY) -m tests.fuzz --minutes $(or $(MINUTES),3)

lint: install ## style, imports and types of the code; notebooks must hold no outputs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@$(dir $(PY))lint-imports --no-cache --no-logo
	$(PY) -m mypy
	@$(PY) -m nbstripout --verify --keep-id $(NOTEBOOKS) || { echo "error: notebooks in git hold no outputs; run $(PY) -m nbstripout --keep-id notebooks/*.ipynb" >&2; exit 1; }

notebooks: install ## execute the notebooks that are out of date
	@$(PY) -m tools.execute --profile $(PROFILE) --jobs $(JOBS) $(FORCED)

install: ## make .venv from requirements.lock, if it is missing or out of date
	@sh tools/install.sh

zip: book ## pack the built book into dist/, for reading without a network
	@$(PY) -m tools.archive

pdf: notebooks ## build the book as one PDF into dist/ (needs TeX)
	@$(PY) -m tools.pdf --profile $(PROFILE)

clean: ## delete the environment and everything that the build made
	rm -rf .venv .lab _build _executed build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info

help: ## this list
	@echo "make [target] [PROFILE=smoke|quick|paper] [FORCE=1] [PYTHON=/path/to/python3]"
	@sed -n 's/^\([a-z]*\):.*## /  \1|/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'
	@echo "PROFILE is quick unless said otherwise (make test always uses smoke); FORCE=1 executes every notebook again."
