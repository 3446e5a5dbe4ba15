# `make demo` and `make test` are all that a newcomer needs; each makes the environment it lacks.
PYTHON ?= python3
VENV ?= .venv
REPORT_VENV ?= .venv-report
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# One process of tests more than cores, for many tests wait for SLURM, a browser or another process.
TESTERS ?= $(shell expr $(JOBS) + 1)
STUDY ?= digits
# Which tests, and how: make test SELECT=waits OPTIONS='--repeat 10'. Tests of a file mostly run in one process, which
# makes what they share once; a process that is done takes tests from another.
SELECT ?= not long and not fuzz
PYTEST = -m pytest --numprocesses $(TESTERS) --maxprocesses 8 --dist worksteal $(OPTIONS)
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo study-gpu test quick lint docs screenshots report clean

# The dispersive losses of the paper's Table 2 on scikit-learn's digits, from nothing to a report.
demo: $(VENV)/ready
	$(VENV)/bin/harness run demo --scale demo --jobs $(JOBS) --report

# Nine minutes of one card: the baseline against two temperatures, on CIFAR-10's first 5,000 images and Fashion-MNIST.
# What needs no card, before: .venv/bin/python benchmarks/gpu_study.py --ready
study-gpu: $(VENV)/ready
	$(VENV)/bin/python benchmarks/gpu_study.py --minutes 9

test: $(VENV)/ready-test
	$(VENV)/bin/python $(PYTEST) -m "$(SELECT)"

quick: $(VENV)/ready-test
	$(VENV)/bin/python $(PYTEST) -m "not slow and not integration and not long and not fuzz"

lint: $(VENV)/ready-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# What is made from the code: the pages of the grid format and of the metrics, and the picture of the rooms.
docs: $(REPORT_VENV)/ready
	$(REPORT_VENV)/bin/harness keys --markdown > docs/grid-format.md
	$(REPORT_VENV)/bin/python -m harness.metric_definitions > docs/metrics.md
	$(REPORT_VENV)/bin/python -m harness.launchers.status_document > docs/status.schema.json
	$(REPORT_VENV)/bin/python docs/draw_rooms.py

# The pictures of the committed report in docs/pictures; needs Debian's chromium and chromium-driver.
screenshots: $(VENV)/ready-test
	$(VENV)/bin/python docs/screenshots.py

# Makes a report again from stored results, in an environment without torch.
report: $(REPORT_VENV)/ready
	$(REPORT_VENV)/bin/harness report $(STUDY)

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[train]'
	touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(VENV)/bin/python $(PIP) --editable '.[train,encode,parquet,tracking,test]'
	touch $@

$(REPORT_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(REPORT_VENV)
	$(REPORT_VENV)/bin/python $(PIP) --editable .
	touch $@

clean:
	rm -rf $(VENV) $(REPORT_VENV) scratch/demo results/demo reports/demo build *.egg-info
