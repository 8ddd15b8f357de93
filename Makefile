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

# One thread a job: jobs run side by side, and the number of threads changes the last digits. oneDNN
# halves the time of a training, but its digits depend on the processor: not where stored outputs
# are compared.
export TF_ENABLE_ONEDNN_OPTS := $(if $(filter quick,$(PROFILE)),0,1)
export TF_NUM_INTRAOP_THREADS := 1
export TF_NUM_INTEROP_THREADS := 1
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export TF_CPP_MIN_LOG_LEVEL := 3
# With AVX-512 NumPy and its BLAS round otherwise than with AVX2, and a small network's score may turn
# on that; where outputs are compared, all processors do as those without.
ifeq ($(filter quick,$(PROFILE))$(shell grep -m1 -o avx512f /proc/cpuinfo 2>/dev/null),quickavx512f)
export ONEDNN_MAX_CPU_ISA := AVX2
export OPENBLAS_CORETYPE := Haswell
export NPY_DISABLE_CPU_FEATURES := X86_V4 AVX512_ICL AVX512_SPR
endif
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# glibc hands large arrays back to the system after each use; keeping them saves a sixth of a step.
export MALLOC_TRIM_THRESHOLD_ := 2000000000
export MALLOC_MMAP_THRESHOLD_ := 2000000000

.DEFAULT_GOAL := help
.PHONY: help setup reproduce report test lint unit notebooks-check notebooks readme bench lab lock \
	clean

help: ## Explain the targets
	@echo "Usage: make TARGET [PROFILE=quick|sample|paper] [DATA=folder]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Start with: make reproduce"

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
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 \
		--display-name "Python 3 (ipykernel)" --env TF_CPP_MIN_LOG_LEVEL 3 \
		> $(VENV)/kernel.log 2>&1 || { cat $(VENV)/kernel.log; exit 1; }
	@mkdir -p $(VENV)/etc/ipython
	@echo "c.IPKernelApp.log_level = 40" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@rm -f $(VENV)/.ready-* && touch $@

reproduce: setup ## Run every notebook of a profile; results/<profile>/ gets tables and figures
	@COVID_DATA_DIR="$(DATA)" $(BIN)/snakemake --profile profiles/local --cores $(CORES) \
		--config profile=$(PROFILE) $(if $(IMAGENET),imagenet='$(IMAGENET)') \
		|| { echo "If nothing above says why: .snakemake/log has Snakemake's own words."; exit 1; }
	@echo
	@echo "Look at results/$(PROFILE)/ :"
	@echo "  tables/table1.* ... table9.*         ours beside the paper's, as .csv, .md and .html"
	@echo "  verdicts.csv                         the verdict on each claim of the paper, below"
	@echo "  segmentation_scores.csv              every score of every segmentation"
	@echo "  figures/                             Figures 2, 3, 7 to 11"
	@echo "  notebooks/                           the executed notebooks"
	@echo "  <run>/metrics.json, provenance.json  predictions, scores and origin of each run"
	@echo
	@$(BIN)/python -m covid_utils verdicts --profile $(PROFILE)

report: setup ## Build the site of a profile's results; build/site/<profile>/index.html
	@$(BIN)/python -m covid_utils report --profile $(PROFILE)

test: lint unit notebooks-check ## Lint, unit tests, and the notebooks' stored outputs

lint: setup ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

unit: setup ## Unit tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# In a home of their own, so that 01 to 04 start from nothing, as in a clean checkout.
notebooks-check: export TF_ENABLE_ONEDNN_OPTS := 0
notebooks-check: setup ## Re-run the notebooks and compare their stored outputs
	@rm -rf build/nbval
	@COVID_HOME="$(CURDIR)/build/nbval" $(BIN)/python -m pytest --nbval-lax --nbval-current-env \
		--nbval-cell-timeout 600 --nbval-sanitize-with notebooks/nbval.cfg \
		-n $(WORKERS) --dist loadfile notebooks/01_data.ipynb notebooks/02_task1_inception.ipynb \
		notebooks/03_task2_multilabel.ipynb notebooks/04_task3_stream.ipynb \
		notebooks/04_task3_together.ipynb
	@$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 600 \
		--nbval-sanitize-with notebooks/nbval.cfg notebooks/00_overview.ipynb \
		notebooks/05_tables.ipynb

notebooks: setup ## Run all notebooks in place and store their outputs (for maintainers)
	@for name in 01_data 02_task1_inception 03_task2_multilabel 04_task3_stream 04_task3_together 05_tables 00_overview; do \
		echo "$$name ..." && $(BIN)/python workflow/store_outputs.py $$name || exit 1; done

readme: setup ## Put the numbers of results/sample into the README (for maintainers)
	@$(BIN)/python -m covid_utils readme

bench: setup ## Measure speed and memory, and rewrite benchmarks/README.md
	@env -u TF_ENABLE_ONEDNN_OPTS -u TF_NUM_INTRAOP_THREADS -u TF_NUM_INTEROP_THREADS -u OMP_NUM_THREADS \
		-u OPENBLAS_NUM_THREADS -u ONEDNN_MAX_CPU_ISA -u OPENBLAS_CORETYPE -u NPY_DISABLE_CPU_FEATURES \
		$(BIN)/python benchmarks/run.py

lab: setup ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=. notebooks/00_overview.ipynb

lock: setup ## Renew both lock files from pyproject.toml (for maintainers)
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra cpu -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra gpu -o requirements-gpu.lock

LOCK_OPTIONS := --quiet --universal --generate-hashes --no-annotate --no-header \
	--python-version 3.11 --extra run --extra site --extra dev

clean: ## Delete what runs made: caches, models, the phantom, all results but results/sample
	@rm -rf cache models data/phantom data/.phantom* .snakemake build results/quick results/ci results/paper
	@find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
	@echo "Kept: results/sample (committed) and .venv (delete it by hand: rm -r .venv)."
