# Every target does its own set-up; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/installed
NODE := tests/node/node_modules/.package-lock.json

DEMO_PACKAGES := iproute2 mount nftables util-linux
BENCH_PACKAGES := $(DEMO_PACKAGES) tcptraceroute traceroute mtr-tiny
ACCURACY_PACKAGES := $(BENCH_PACKAGES) slirp4netns passt
IMAGE_PACKAGES := $(DEMO_PACKAGES) buildah crun debian-archive-keyring debootstrap
TEST_PACKAGES := $(ACCURACY_PACKAGES) $(IMAGE_PACKAGES) prometheus chromium chromium-driver tcpdump tshark w3m

# Prints the first Python that is new enough and can make a virtual environment.
define find_python
for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do
	if "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
	then echo "$$python"; exit; fi
done
endef

# Installs those of the Debian packages $(1) that are missing, or says how. What a package
# brings is needed, never its daemon (Debian's prometheus is one), so starting is forbidden
# for the time of the installation, and at later boots.
define need
missing=()
for package in $(1); do
	status=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)
	[ "$$status" = installed ] || missing+=("$$package")
done
if [ "$${#missing[@]}" -gt 0 ]; then
	install="apt-get install --yes --no-install-recommends $${missing[*]}"
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		policy=/usr/sbin/policy-rc.d
		if [ ! -e "$$policy" ]; then
			trap 'rm -f "$$policy"' EXIT
			printf '#!/bin/sh\nexit 101\n' >"$$policy"
			chmod 755 "$$policy"
		fi
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive $$install --quiet=2
		if [[ " $${missing[*]} " = *" prometheus "* ]] && command -v systemctl >/dev/null; then
			systemctl disable prometheus
		fi
	else
		echo "Missing Debian packages, to be installed as root: $$install" >&2
	fi
fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements-dev.lock
	@python=$$($(find_python))
	if [ -z "$$python" ]; then
		$(call need,python3-venv)
		python=$$($(find_python))
	fi
	if [ -z "$$python" ]; then
		echo "No Python >= 3.11 with venv here. Name one: make install PYTHON=/path/to/python3" >&2
		exit 1
	fi
	echo "Installing into .venv with $$("$$python" --version)"
	[ -x $(BIN)/pip ] || "$$python" -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Browsers' and Grafana's own judges, for the tests. Where no npm is, Debian's will do.
$(NODE): tests/node/package.json tests/node/package-lock.json
	@command -v npm >/dev/null || { $(call need,nodejs npm); }
	npm ci --silent --ignore-scripts --prefix tests/node
	touch $@

.PHONY: install
install: $(STAMP) ## create .venv from requirements-dev.lock

.PHONY: system
system: ## install the Debian packages that the tests need
	@$(call need,$(TEST_PACKAGES))

.PHONY: demo
demo: install ## the exporter in a small network of its own: open, closed, dropped, rejected
	@$(call need,$(DEMO_PACKAGES))
	exec $(BIN)/python -m tests.lab.demo

.PHONY: run
run: install ## serve on the real network: make run ENDPOINTS="a=host:443 b=host:5432"
	@exec $(BIN)/egress-exporter serve

.PHONY: image
image: install ## build the container image without a registry or Docker, and run it once
	@$(call need,$(IMAGE_PACKAGES))
	exec $(BIN)/python -m tests.image

.PHONY: check
check: install ## format, lint and types, without running anything
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Half of the time the tests wait for their networks, so there are more at once than processors.
# The image takes longest, and in the order of their names its tests begin early. A worker that gets
# any test of a file plays all that the file's tests look at: so each file has one worker.
.PHONY: test
test: system check $(NODE) ## every check, then every test
	@$(BIN)/python -m pytest --durations=10 -m "not alone" --numprocesses 4 --dist loadfile \
		--no-loadscope-reorder
	$(BIN)/python -m pytest --durations=10 -m alone --numprocesses 2 --dist loadfile \
		--no-loadscope-reorder tests/accuracy tests/dashboards tests/lab
	$(BIN)/python -m pytest --durations=10 -m alone \
		--ignore tests/accuracy --ignore tests/dashboards --ignore tests/lab

.PHONY: bench
bench: install ## measure, with tcptraceroute, traceroute and mtr beside
	@$(call need,$(BENCH_PACKAGES))
	exec $(BIN)/python -m tests.bench

.PHONY: bench-scale
bench-scale: install ## 10, 100 and 1,000 targets: verdicts, CPU, memory; pools of the others beside
	@$(call need,$(BENCH_PACKAGES))
	exec $(BIN)/python -m tests.bench scale pools

.PHONY: soak
soak: install ## 30 simulated hours of 100 targets: does anything grow, is every verdict right
	@exec $(BIN)/python -m tests.bench.soak

# How often `make accuracy` plays each situation.
REPEAT ?= 1

.PHONY: accuracy
accuracy: install ## who says the truth in each situation, with the peers beside; REPEAT=20 for 20 times each
	@$(call need,$(ACCURACY_PACKAGES))
	exec $(BIN)/python -m tests.accuracy --repeat $(REPEAT)

.PHONY: format
format: install ## rewrite the code in the house's format
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Existing pins stay while they satisfy pyproject.toml; LOCK=--upgrade renews them.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet $(LOCK) \
	--generate-hashes --allow-unsafe --strip-extras --no-emit-options \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: lock
lock: install ## pin the dependencies of pyproject.toml anew (LOCK=--upgrade: all of them)
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --build-deps-for editable --constraint requirements.lock \
		--output-file requirements-dev.lock pyproject.toml

.PHONY: clean
clean: ## remove what these targets made, .venv included
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
