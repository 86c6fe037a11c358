# make demo: everything on drawn patients; make test: the tests; make lab: the notebooks; make data: fetch the real data; make report RUN=...
PYTHON ?= python3
RUN ?= runs/demo
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lab data report
demo: .venv/installed
	snakemake --workflow-profile profiles/default --configfile configs/demo.yaml --config run_dir=$(RUN)
	@echo "Submission: $(RUN)/submission.csv"
	@echo "Report:     $(RUN)/report/index.html  (open it in a browser)"

test: .venv/installed
	ruff check .
	OMP_NUM_THREADS=1 python -m pytest -n 2

lab: .venv/installed
	jupyter lab --notebook-dir=.. --LabApp.default_url=/lab

data: .venv/installed
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[kaggle]"
	python -m t4e_utils.competitions.brain_tumor_download data

report: .venv/installed
	python -m t4e_utils.report $(RUN)

.venv/installed: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or later is needed, and $(PYTHON) is not: name another one, as in make PYTHON=python3.11 demo."; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python's module venv is needed (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
