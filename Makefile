# demo: T4E, everything, on drawn patients; demo-NAME: the same for another collection, demos: for all;
# test: the tests, test-NAME: those of one room or collection; lab: the notebooks; data, data-NAME: fetch the real data;
# report: that of RUN anew; gallery, gallery-NAME: docs/executed from the demo; test-browser: the notebooks in a browser (Chromium)
PYTHON ?= python3
RUN ?= runs/demo
# goes to commands as a variable of the shell, which reads nothing into it
override RUN := $(value RUN)
export RUN
# Snakemake takes it for YAML, which reads nothing into what is quoted
export RUN_QUOTED := $(subst ','',$(RUN))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# names for demo-, data- and test-; T4E's own are `make demo` and `make data`
DEMOS := $(patsubst configs/%/demo.yaml,%,$(wildcard configs/*/demo.yaml))
DATA := $(filter-out brain_tumor,$(patsubst t4e_utils/competitions/%/download.py,%,$(wildcard t4e_utils/competitions/*/download.py)))
TESTS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard tests/*/test_*.py tests/competitions/*/test_*.py)))))
known = @$(if $(filter $*,$(1)),:,echo "There is no $*: $(if $(strip $(1)),choose from $(strip $(1)),no collection but T4E has one yet)."; exit 1)

.PHONY: demo demos test lab data report gallery test-browser
demo: .venv/installed
	$(BIN)/python -m snakemake --cores all --configfile configs/demo.yaml --config "run_dir=!!str '$$RUN_QUOTED' "
	@printf '%s\n' "Submission: $$RUN/submission.csv" "Report:     $$RUN/report/index.html (open it in a browser)"

demo-%: .venv/installed
	$(call known,$(DEMOS))
	$(BIN)/python -m snakemake --cores all --configfile "configs/$*/demo.yaml" --config run_dir="runs/$*-demo"
	@echo "Report:     runs/$*-demo/report/index.html (open it in a browser)"

demos: demo $(DEMOS:%=demo-%)

test: .venv/installed
	$(BIN)/ruff check t4e_utils notebooks tests benchmarks
	$(BIN)/ruff format --check t4e_utils notebooks tests benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-%: .venv/installed
	$(call known,$(TESTS))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(wildcard tests/$* tests/competitions/$*)

lab: .venv/installed
	JUPYTER_CONFIG_PATH="$$PWD/configs/jupyter" $(BIN)/python -m jupyterlab --ServerApp.root_dir="$$PWD" \
		--LabApp.default_url=/lab/tree/notebooks/README.md $(LAB_OPTIONS)

data: .venv/installed
	$(PIP) --editable ".[kaggle]"
	$(BIN)/python -m t4e_utils.competitions.brain_tumor.download data

data-%: .venv/installed
	$(call known,$(DATA))
	$(PIP) --editable ".[kaggle]"
	$(BIN)/python -m t4e_utils.competitions.$*.download "data/$*"

report: .venv/installed
	$(BIN)/python -m t4e_utils.workflow.report "$$RUN"

gallery: demo
	$(BIN)/python -m t4e_utils.workflow.gallery "$$RUN"

gallery-%: demo-%
	$(BIN)/python -m t4e_utils.workflow.gallery "runs/$*-demo" --collection "$*"

test-browser: demo
	$(PIP) --editable ".[browser]"
	$(BIN)/python -m pytest -n 0 tests/browser.py

.venv/installed: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@case "$$PWD" in *[{}$$:]*) echo "pip installs nothing into $$PWD, because of its brace, dollar sign or colon: rename that folder."; exit 1;; esac
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or later is needed, and '$(PYTHON)' is not: name one, as in 'make PYTHON=python3.12 demo'."; exit 1; }
	@"$(PYTHON)" -m venv .venv || { echo "Python's module venv is needed (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	$(PIP) -r requirements.txt -r requirements-dev.txt
	$(PIP) --no-deps --editable .
	@touch $@
