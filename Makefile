# Two commands do everything on a fresh machine: "make run" and "make test". The rest is for working on Gaoler.

SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
VENV := .venv
STATE_DIR ?= /var/lib/gaoler
BIND ?= 127.0.0.1:8000
TEST_IMAGE_DIR ?= $(CURDIR)/.cache/images
# All of them: a test of a group that the image does not have is skipped.
TEST_GROUPS ?= $(patsubst supervisor/runtimes/groups/%.toml,--group %,$(wildcard supervisor/runtimes/groups/*.toml))
# What virtual machines are made of comes for this processor only.
TEST_MICROVM ?= $(if $(filter x86_64,$(shell uname -m)),--microvm)
# On which hypervisor virtual machines are tried, libkrun or qemu; empty: libkrun where a probe boots. No setting of Gaoler's.
unexport GAOLER_TEST_MICROVM
# Releases of Debian that are booted with systemd, with Gaoler as a service: by test-systemd, and by the gate, which boots
# one, the one with a fleet in it: two take over 20 minutes beside its other tests (none there: make test GATE_SUITES=).
SUITES ?= trixie bookworm
GATE_SUITES ?= trixie
# The tests of sandboxes in virtual machines.
MICROVM_TESTS ?= tests/microvm tests/contracts/test_backend.py

.PHONY: run test lint types imports unit test-v2 test-systemd test-microvm test-newcomer crash tools docs dist deb bench bench-scale bench-microvm fuzz explore lock clean

run: $(VENV)/installed
	@$(VENV)/bin/gaoler image build --state-dir $(STATE_DIR)
	@exec $(VENV)/bin/gaoler serve --state-dir $(STATE_DIR) --bind $(BIND) --show-key

test: lint types imports unit

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-dev
	$(VENV)/bin/mypy

imports: $(VENV)/installed-dev
	$(VENV)/bin/lint-imports

unit: $(VENV)/installed-dev tools
	$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all $(TEST_GROUPS) $(TEST_MICROVM)
	GAOLER_TEST_IMAGE_DIR=$(TEST_IMAGE_DIR) GAOLER_TEST_MICROVM=$(GAOLER_TEST_MICROVM) GAOLER_TEST_SYSTEMD="$(GATE_SUITES)" $(VENV)/bin/python -m tests.gate

# Boots a virtual machine with cgroup v2 and runs there what depends on cgroups. Minutes; not a part of the gate.
test-v2: $(VENV)/installed-dev tools
	@command -v qemu-system-x86_64 >/dev/null && test -x /bin/busybox && ls /boot/vmlinuz-* >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends qemu-system-x86 linux-image-amd64 busybox-static cpio; }
	$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all
	$(VENV)/bin/python -m tests.guest.boot $(TEST_IMAGE_DIR) tests/contracts/test_join_equality.py \
		tests/supervisor/test_privileges.py tests/containment/test_claims.py tests/deploy/test_rights.py -k 'join or privileges or rights or R1 or R2 or R3 or R9 or R10 or P1 or P3'

# Boots Debian 13 and Debian 12 with systemd, installs Gaoler there as a service and does to it what operators and accidents
# do, and says what it does. The disks are made once (minutes); then it is minutes for each. The gate has the first.
test-systemd: $(VENV)/installed-dev tools
	GAOLER_TEST_SYSTEMD="$(SUITES)" $(VENV)/bin/python -m pytest -v -s tests/systemd

# The tests of virtual machines, which the gate runs too, on libkrun and KVM: the doctor says first what this host lacks. With
# GAOLER_TEST_MICROVM=qemu on an emulated processor, as the gate has it where no machine boots.
test-microvm: HYPERVISOR = $(or $(GAOLER_TEST_MICROVM),libkrun)
test-microvm: $(VENV)/installed-dev tools
	$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --microvm
	@test $(HYPERVISOR) != libkrun || GAOLER_IMAGE_DIR=$(TEST_IMAGE_DIR) $(VENV)/bin/gaoler doctor --microvm
	GAOLER_TEST_IMAGE_DIR=$(TEST_IMAGE_DIR) GAOLER_TEST_MICROVM=$(HYPERVISOR) $(VENV)/bin/python -m pytest $(MICROVM_TESTS)

# An empty Debian of mmdebstrap with git, make and python3: a clone, make run, the README's command, each timed. Minutes.
# NEWCOMER=--test runs this gate there too.
test-newcomer: $(VENV)/installed-dev
	@command -v mmdebstrap >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install mmdebstrap; }
	$(VENV)/bin/python -m tests.release.newcomer $(NEWCOMER)

# Kills every process of ours at every step of what it does, and prints the table of docs/crash-safety.md. An hour or two.
crash: $(VENV)/installed-dev tools
	$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all
	GAOLER_CRASH=all GAOLER_TEST_IMAGE_DIR=$(TEST_IMAGE_DIR) $(VENV)/bin/python -m pytest tests/crash

# What tests use of Debian beside what the image brings: a C compiler for hostile programs, npm for LibreChat's client, a browser,
# the shells that complete, and an emulator for guests. Its virtiofsd is a part of qemu-system-common until Debian 12, a package of its own since then.
# redis-tools has the server's program too (redis-check-rdb, by another name); redis-server would start a service, and so
# would prometheus, of which only promtool is wanted.
tools:
	@command -v gcc >/dev/null && command -v npm >/dev/null || { echo "Installing gcc, nodejs, npm ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install gcc libc6-dev nodejs npm; }
	@command -v qemu-system-x86_64 >/dev/null && { test -x /usr/lib/qemu/virtiofsd || test -x /usr/libexec/virtiofsd; } || { echo "Installing qemu-system-x86 ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends qemu-system-x86 qemu-system-common $$(apt-cache search --names-only '^virtiofsd$$' | cut -d' ' -f1); }
	@command -v redis-check-rdb >/dev/null || command -v redis-server >/dev/null || { echo "Installing redis-tools ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends redis-tools; }
	@command -v promtool >/dev/null || test -x .cache/prometheus/promtool || { echo "Fetching promtool ..."; apt-get -qq update && mkdir -p .cache/prometheus && cd .cache/prometheus && apt-get -qq download prometheus && dpkg -x prometheus_*.deb package && mv package/usr/bin/promtool . && rm -r package prometheus_*.deb; }
	@command -v mmdebstrap >/dev/null && test -x /usr/sbin/mkfs.ext4 || { echo "Installing mmdebstrap, e2fsprogs ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends mmdebstrap e2fsprogs; }
	@command -v curl >/dev/null || { echo "Installing curl ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends curl; }
	@command -v shellcheck >/dev/null || { echo "Installing shellcheck ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends shellcheck; }
	@command -v zsh >/dev/null && command -v fish >/dev/null || { echo "Installing zsh, fish ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends zsh fish; }
	@command -v chromium >/dev/null || { echo "Installing chromium ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends chromium fonts-dejavu-core; }

# The documentation as a site in .cache/site, which needs nobody else's server. The gate builds it too.
docs: $(VENV)/installed-dev
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# What a release consists of, in dist/: archives, lock file, bills of materials, checksums. The same bytes each time.
dist: $(VENV)/installed-dev
	@$(VENV)/bin/python deploy/release/archives.py --output dist

# A Debian package of them, for this host's release of Debian.
deb: dist
	@$(VENV)/bin/python deploy/release/debian_package.py --release dist

bench: $(VENV)/installed-dev
	@$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all
	@for each in latency languages mcp waiting fairness neighbours transfer egress load observing soak; do $(VENV)/bin/python -m benchmarks.$$each --image-dir $(TEST_IMAGE_DIR) && echo || exit 1; done
	@$(VENV)/bin/python -m benchmarks.seccomp

# A fleet on this machine beside an embedded daemon, and what a simulation makes of that for 10, 100 and 1 000 hosts. Minutes.
bench-scale: $(VENV)/installed-dev tools
	@$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all
	@$(VENV)/bin/python -m benchmarks.scale --image-dir $(TEST_IMAGE_DIR)

# Boots of virtual machines and executions in them, beside a plain QEMU boot of the same kernel. Minutes.
bench-microvm: $(VENV)/installed-dev tools
	@$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --microvm
	@$(VENV)/bin/python -m benchmarks.microvm --image-dir $(TEST_IMAGE_DIR)

# INPUTS inputs, guided by coverage, for the egress proxy's parsers, and as many for doors, names and the jailer protocol.
INPUTS ?= 1000000
fuzz: $(VENV)/installed-dev
	@$(PYTHON) -m venv $(VENV)-fuzz && $(VENV)-fuzz/bin/pip install -q --disable-pip-version-check atheris==3.0.0
	@$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(VENV)-fuzz/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gaoler.pth"
	$(VENV)-fuzz/bin/python -m tests.egress.fuzz --inputs $(INPUTS) --engine atheris
	$(VENV)-fuzz/bin/python -m tests.fuzz.run --inputs $(INPUTS) --engine atheris

# Other examples than the gate's, ROUNDS times over, for each test that hypothesis makes examples for. What is found stays in
# .hypothesis and is tried first the next time; it belongs into its test, as an example of the gate's.
ROUNDS ?= 20
explore: $(VENV)/installed-dev tools
	$(VENV)/bin/gaoler image build --image-dir $(TEST_IMAGE_DIR) --languages all $(TEST_GROUPS)
	for round in $$(seq $(ROUNDS)); do \
		GAOLER_TEST_IMAGE_DIR=$(TEST_IMAGE_DIR) $(VENV)/bin/python -m pytest -q -m hypothesis --hypothesis-profile explore tests || exit; \
	done

# Pins every package, ours, the sandbox's and the guest's; needs uv.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra dev \
		--custom-compile-command "make lock" pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements-dev.lock \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	cd supervisor/runtimes/python && uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" packages.in -o packages.lock
	cd supervisor/runtimes/guest && uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		-c ../../../requirements.lock --custom-compile-command "make lock" packages.in -o packages.lock

# One step each, so that an interrupted installation goes on where it was.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Installing python3-venv ..."; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3 python3-venv; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Gaoler's own packages ..."
	@$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Gaoler's packages and those of its tests ..."
	@$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) $(VENV)-fuzz .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/clients/node_modules
