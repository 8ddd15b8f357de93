# Targets of the companion; `make` alone explains them.

PROFILE ?= quick
DATA ?=
# 'imagenet' or a file: a further run of the all-class stream starts from these weights.
IMAGENET ?=
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
# The lock file that .venv was made from stays in force until another one is named.
LOCK ?= $(or $(patsubst $(VENV)/.ready-%,%,$(firstword $(wildcard $(VENV)/.ready-*))),requirements.lock)
READY := $(VENV)/.ready-$(LOCK)
# Tests that train need memory, so many cores do not mean many workers.
WORKERS := $(shell test $(CORES) -gt 4 && echo 4 || echo $(CORES))

# Names of folders and files reach the jobs through the environment, never through a shell.
export COVID_DATA_DIR := $(value DATA)
export COVID_IMAGENET := $(value IMAGENET)
# Everything that computes starts in the environment that this script fixes.
RUN = $(BIN)/python workflow/environment.py

.DEFAULT_GOAL := help
TARGETS := help setup reproduce recompute report test lint unit notebooks-check notebooks readme \
	models bench fuzz refusal geometry lab lock clean
.PHONY: $(TARGETS)

# Any other word: one sentence with the target that is most like it.
.DEFAULT:
	@$(PYTHON) -c 'import difflib, sys; wrong, *names = sys.argv[1:]; sys.exit("make %s: no such target; the nearest is make %s, and make alone explains all." % (wrong, *difflib.get_close_matches(wrong, names, 1, 0)))' \
		'$(subst ',,$@)' $(TARGETS)

help: ## Explain the targets
	@echo "Usage: make TARGET [PROFILE=quick|sample|paper] [DATA=folder]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Start with: make reproduce (profile quick, unless PROFILE names another)"

setup: $(READY) ## Create .venv from the locked packages

$(READY): requirements.lock requirements-gpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14))' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is missing; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV) (about 3 GB) ..."
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python $(LOCK)
	@$(BIN)/python workflow/install.py
	@rm -f $(VENV)/.ready-* && touch $@

reproduce: setup ## Run every notebook of a profile; results/<profile>/ gets tables and figures
	@$(BIN)/python -m snakemake --profile profiles/local --cores $(CORES) --config profile=$(PROFILE) \
		|| { echo "If nothing above says why: .snakemake/log has Snakemake's own words."; exit 1; }
	@echo
	@echo "Look at results/$(PROFILE)/ :"
	@echo "  tables/table1.* ... table9.*         ours beside the paper's, as .csv and .md"
	@echo "  verdicts.csv                         two verdicts on each claim of the paper, below"
	@echo "  scores.csv                           every score, which the tables select from"
	@echo "  figures/                             Figures 2, 3, 7 to 11"
	@echo "  notebooks/                           the executed notebooks"
	@echo "  <run>/metrics.json, provenance.json  predictions, scores and origin of each run"
	@echo
	@$(BIN)/python -m covid_utils verdicts --profile $(PROFILE)

recompute: setup ## Rebuild scores, tables, verdicts and their figures from predictions alone
	@$(RUN) $(BIN)/python workflow/recompute.py $(PROFILE)

report: setup ## Build the site of a profile's results; build/site/<profile>/index.html
	@$(BIN)/python docs/build.py $(PROFILE)

test: lint unit notebooks-check ## Lint, unit tests, and the notebooks' stored outputs

lint: setup ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

unit: setup ## Unit tests
	@$(RUN) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# In a home of their own, so that 01 to 04 start from nothing, as in a clean checkout.
notebooks-check: setup ## Re-run the notebooks and compare their stored outputs
	@rm -rf build/nbval
	@COVID_HOME="$$PWD/build/nbval" $(NBVAL) --nbval-lax -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder $(LONGEST) $(filter-out $(LONGEST) $(STRICT),$(wildcard notebooks/*.ipynb))
	@$(NBVAL) --nbval $(STRICT)

NBVAL = $(RUN) $(BIN)/python -m pytest --nbval-current-env --nbval-cell-timeout 600 \
	--nbval-sanitize-with notebooks/nbval.cfg
STRICT := $(patsubst %,notebooks/%.ipynb,00_overview 05_tables 06_as_published)
# It trains every stream, so it starts first.
LONGEST := notebooks/04_task3_together.ipynb

notebooks: setup ## Run all notebooks in place and store their outputs (for maintainers)
	@for file in $(filter-out notebooks/00_overview.ipynb,$(wildcard notebooks/*.ipynb)) \
			notebooks/00_overview.ipynb; do \
		echo "$$file ..." && $(BIN)/python workflow/store_outputs.py $$file || exit 1; done

readme: setup ## Put numbers and the first picture into the README (for maintainers)
	@$(BIN)/python workflow/fill_readme.py
	@$(BIN)/python workflow/first_look.py

models: setup ## Pack what a profile trained to read scans, and its card: models/<profile>/
	@$(RUN) $(BIN)/python workflow/pack.py $(PROFILE)

bench: setup ## Measure speed and memory, and rewrite benchmarks/README.md
	@$(BIN)/python benchmarks/run.py

fuzz: setup ## Read 10,000 damaged files of each format, and rewrite their pages in benchmarks
	@$(RUN) $(BIN)/python benchmarks/fuzz.py $(COUNT)

COUNT ?= 10000

refusal: setup ## Show what is no CT slice to covid-read, and rewrite benchmarks/refusal.md
	@$(RUN) $(BIN)/python benchmarks/refusal.py

geometry: setup ## Check where masks lie, and rewrite benchmarks/geometry.md
	@$(RUN) $(BIN)/python benchmarks/geometry.py

# JupyterLab refuses to run as root, as in a container, unless it is told to.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

lab: setup ## Open the notebooks in JupyterLab
	@$(BIN)/python -m jupyter lab $(AS_ROOT) --notebook-dir=. notebooks/00_overview.ipynb

lock: setup ## Renew both lock files from pyproject.toml (for maintainers)
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra cpu -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra gpu -o requirements-gpu.lock

LOCK_OPTIONS := --quiet --universal --generate-hashes --no-annotate --no-header \
	--python-version 3.11 --extra run --extra site --extra dev

clean: ## Delete what runs made: caches, models, the phantom, all results but results/sample
	@find models -mindepth 1 -maxdepth 1 ! -name sample -exec rm -rf {} + 2>/dev/null; \
		find models/sample -type f ! -name 'shipped.npz*' ! -name card.md -delete 2>/dev/null; true
	@rm -rf cache data/phantom data/.phantom* .hypothesis .snakemake build results/quick results/ci results/paper
	@find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
	@echo "Kept: results/sample and the network in models/sample (both committed) and .venv (delete it by hand: rm -r .venv)."
