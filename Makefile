# Everything a person or a build machine asks of this project. Needs Rust; the rest is installed by
# `make deps` (apt), which every target that needs it calls. `make help` lists the targets.

SHELL := /bin/bash
PATH := $(HOME)/.cargo/bin:$(PATH)
export PATH
# The beds boot machines and make network namespaces: root's work.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH)
BEDS := python3 tests/beds/run.py
CORPUS := python3 tests/corpus/run.py target/release/hubwarden target/corpus

# How long each target is fuzzed.
SECONDS := 60

.DEFAULT_GOAL := help
.PHONY: help deps build-deps build unit roots bed-deb test fuzz scenarios scenario deb rpm check-packages generated egress-table hubs-table mutants simulate torture bench corpus demo clean-beds

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

deps: ## install by apt what building and the test beds need
	@tests/beds/install-deps

build-deps:
	@tests/beds/install-deps build

build: build-deps ## the release binary
	cargo build --release --locked

unit: build-deps ## formatting, lints, and the unit, property and integration tests
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace

# Left alone if all that goes into it is older: the vm is saved with this very package.
PACKAGED := Cargo.toml Cargo.lock README.md config.example.toml docs packaging systemd target/release/hubwarden
deb: build-deps ## target/debian/hubwarden_*.deb
	cargo build --release --locked
	@made=$$(ls target/debian/hubwarden_*.deb 2>/dev/null); \
		if [ -z "$$made" ] || [ -n "$$(find $(PACKAGED) -newer "$$made" -print -quit)" ]; then \
			rm -f target/debian/hubwarden_*.deb; echo cargo deb --locked --quiet --no-build; cargo deb --locked --quiet --no-build; \
		fi
	@ls target/debian/hubwarden_*.deb

rpm: deps ## target/generate-rpm/hubwarden-*.rpm
	cargo build --release --locked
	@rm -f target/generate-rpm/hubwarden-*.rpm
	cargo generate-rpm
	@ls target/generate-rpm/hubwarden-*.rpm

check-packages: deb rpm ## look at both packages as their distributions' tools do
	$(AS_ROOT) tests/beds/check-packages

roots: deps
	@$(AS_ROOT) python3 tests/beds/rootfs.py
	@$(AS_ROOT) $(CORPUS) --prepare

# Where this host's C library is newer than the beds', the package once more, for them.
bed-deb: deps deb
	@$(AS_ROOT) python3 tests/beds/package.py

generated: build-deps ## write the completions and the manual's lists of options anew, from the command line
	HUBWARDEN_WRITE_GENERATED=1 cargo test --locked --test cli generated

# The root file systems are made by one core and the network, so they are made beside the build. What fails
# here is made again, and told, by what needs it.
test: deps ## all tests, the small corpus, and the scenarios in both beds
	$(MAKE) --no-print-directory roots & roots=$$!; $(MAKE) --no-print-directory unit bed-deb; code=$$?; wait $$roots; exit $$code
	$(AS_ROOT) $(CORPUS) --small
	$(AS_ROOT) $(BEDS) all

# Stable Rust: without a sanitizer cargo-fuzz asks for nothing else. Those of crates/nft need nothing of
# the rest.
TARGETS := codec replies rulesets messages names lists config
fuzz: build-deps ## feed any bytes to what reads them: make fuzz SECONDS=60 TARGETS=names
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	for target in $(TARGETS); do \
		cd $(CURDIR)/fuzz; [ -f targets/$$target.rs ] || cd $(CURDIR)/crates/nft/fuzz; \
		dictionary=$$(ls dictionaries/$$target.dict 2>/dev/null); \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=$(SECONDS) -max_len=4096 \
			$${dictionary:+-dict=$$dictionary} || exit 1; \
	done

scenarios: ## the scenarios' names, each with a line of what it shows
	@$(BEDS) list

scenario: bed-deb ## one scenario: make scenario NAME=hub-end-to-end
	$(AS_ROOT) $(BEDS) run $(NAME)

# Each change that no test notices is in target/mutants/PACKAGE/mutants.out/missed.txt; docs/testing.md has
# those that stay. The simulation finds the deliberate faults: they are not changed. cargo-mutants exits with
# 2 or 3 where changes were missed or ran out of time.
MUTATED := policy core
NOT_MUTATED := --exclude crates/core/src/faults.rs --exclude crates/core/src/test_support.rs \
	--exclude-re 'match guard has\(Fault::'
mutants: build-deps ## whether the tests notice faults in what decides; an eighth: make mutants SHARD=0/8
	@cargo mutants --version >/dev/null 2>&1 || cargo install --locked cargo-mutants
	for package in $(MUTATED); do \
		mkdir -p target/mutants/$$package; \
		PROPTEST_CASES=32 CARGO_PROFILE_DEV_DEBUG=none cargo mutants --package hubwarden-$$package \
			$(NOT_MUTATED) $(if $(SHARD),--shard $(SHARD) --sharding round-robin) \
			--output target/mutants/$$package -- --lib --tests \
			|| [ $$? -eq 2 -o $$? -eq 3 ] || exit 1; \
	done
	@for package in $(MUTATED); do printf "\npackage $$package\n"; cat target/mutants/$$package/mutants.out/outcomes.json; done \
		| awk 'function figure(name, caught, viable) \
				{printf "figure mutants_caught_percent %s%.1f\n", name, viable ? 100 * caught / viable : 0} \
			/^package / {package = $$2; packages[++count] = package} \
			/^  "(total_mutants|caught|timeout|unviable)": / {gsub(/[":,]/, ""); number[package, $$1] = $$2} \
			END {for (i = 1; i <= count; i++) { \
				package = packages[i]; \
				caught = number[package, "caught"] + number[package, "timeout"]; \
				viable = number[package, "total_mutants"] - number[package, "unviable"]; \
				figure(package " ", caught, viable); all_caught += caught; all_viable += viable} \
				figure("", all_caught, all_viable)}'

# The core on a made-up node, under random schedules and faults; one of them tells its story.
SEEDS := 100000
simulate: build-deps ## make simulate SEEDS=100000, or make simulate SEED=7 for the story of one
	cargo run --release --locked --quiet --package hubwarden-simulation --bin simulate -- \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(if $(FAULT),--fault $(FAULT))

MINUTES := 10
torture: bed-deb ## kills, re-executions and full disks at random: make torture MINUTES=10 SEED=1
	$(AS_ROOT) env MINUTES=$(MINUTES) $(if $(SEED),SEED=$(SEED)) $(BEDS) run torture

# Fails where the table differs from the page; the page is written all the same.
egress-table: bed-deb ## write the table in docs/egress.md anew, from what its scenario finds
	-$(AS_ROOT) $(BEDS) run egress-table
	cp target/beds/egress.md docs/egress.md

# The same with the tables in docs/hubs.md, of which each scenario makes one.
hubs-table: bed-deb ## write the tables in docs/hubs.md anew, from what their scenarios find
	for part in hubs hubs-not-covered hubs-in-containers; do $(AS_ROOT) $(BEDS) run $$part; cp target/beds/hubs.md docs/hubs.md; done

bench: build-deps ## figures; one group alone: make bench ONLY=cgroup
	cargo bench --locked --bench figures -- $(ONLY)

# Needs root, cgroup v2 and a kernel with BPF.
corpus: deps ## miners caught and honest programs spared: make corpus ONLY=CASE
	cargo build --release --locked
	$(AS_ROOT) $(CORPUS) $(ONLY)

demo: bed-deb ## the whole story on a real hub, to read
	$(AS_ROOT) python3 tests/beds/demo.py

clean-beds: ## remove the built root file systems and downloads
	$(AS_ROOT) rm -rf target/beds
