SHELL  := /bin/bash
# rustup and `cargo install` put programs there, and root's shell on Debian may not look there.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT  := $(TARGET)/debug
NATIVE := $(shell dpkg --print-architecture 2>/dev/null)
# Set on the command line only, because other projects use these names in the environment.
ARCH    := $(NATIVE)
OTHER   := $(if $(filter arm64,$(NATIVE)),amd64,arm64)
PROFILE :=
PACKAGES := crosswan cloudcaster

.DEFAULT_GOAL := help
.PHONY: help demo cast-demo kernel test faults churn fuzz bench deb dist image vm-test packer-test arm64-test lint fmt clean build setup setup-fuzz setup-images setup-strongswan

help: ## show this list
	@echo 'Run on Debian 12 or 13. As root what is missing is installed; without root it is named. Start with: make demo'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: build ## show all three modes at work in a region on this machine; KEEP=1 leaves it up to look around in
	@$(BUILT)/crosswan-lab demo $(if $(KEEP),--keep)

cast-demo: build ## show cloudcaster at work: the hub of 2014 and clients cast from documents, then crossed by real packets
	@$(BUILT)/crosswan-lab cast-demo

kernel: build ## say which kernel the lab runs on, and build one of its own where this machine's will not do: four minutes, once
	@$(BUILT)/crosswan-lab kernel uname -sr

test: build setup-fuzz setup-strongswan ## run every test: unit, golden, properties, cloud edge, systemd units, real packets in the lab, a little fuzzing
	@# The tests of the lab mostly wait, so more of them run at once than there are cores.
	@left_out=$$(tests/setup/before.sh) && set -x && RUST_TEST_THREADS=3 cargo test --locked --workspace --no-fail-fast -- $$left_out
	@tests/fuzz/run 2

fuzz: build setup-fuzz ## fuzz everything that reads foreign bytes: make fuzz [TIME=seconds for each target] [TARGETS='vici ec2']
	@tests/fuzz/run $(or $(TIME),60) $(TARGETS)

faults: build ## play every fault of the campaign, twenty minutes: what others lost, how soon it healed; ONLY=NAME for one, see crosswan-faults list
	$(BUILT)/crosswan-faults run $(if $(ONLY),--only $(ONLY),--write tests/faults/results/faults.md)

churn: build ## make N=1000 refreshes while peers come, go and change, ten minutes: what was lost, what grew, what was left behind
	$(BUILT)/crosswan-faults churn $(or $(N),1000) --seed $(or $(SEED),1) $(if $(KNOCKS),--knocks) $(if $(N),,--write tests/faults/results/churn$(if $(KNOCKS),-knocks).md)

bench: build ## measure the budgets beside their baselines, into tests/bench/results: half an hour; ONLY=name runs one
	@tests/setup/debian.sh bench
	@echo 'bench: a release build of the agent takes about ten minutes the first time' >&2
	cargo build --locked --release --bin crosswan
	@CROSSWAN_BIN=$(TARGET)/release/crosswan $(BUILT)/crosswan-bench $(ONLY)

deb: setup-images ## build the Debian packages of the agent and of cloudcaster, into target/package: make deb [ARCH=arm64] [PACKAGES=crosswan]
	@for package in $(PACKAGES); do images/deb/build.sh $$package $(ARCH) $(PROFILE) >/dev/null || exit; done

dist: setup-images ## make a release from the commit that is checked out, in target/dist: packages for amd64 and arm64, manual, bill of materials, checksums
	@tests/setup/debian.sh dist
	@PACKAGES='$(PACKAGES)' images/dist.sh $(TARGET)/dist $(PROFILE)

image: ## build a gateway's disk, into target/images: make image MODE=vpn-hub (or nat-hub, nat-vpn) [ARCH=arm64] [SITE=site.pkrvars.hcl]
	@tests/setup/debian.sh images $(ARCH)
	@SITE='$(SITE)' packer/image.sh $(ARCH) $(TARGET)/images$(if $(filter-out $(NATIVE),$(ARCH)),/$(ARCH)) $(MODE)

vm-test: setup-images ## boot the three images under QEMU in the lab, with their own kernel, and then a pair of nat-vpn; KEEP=1 leaves the machines up, ONLY=WORD runs the steps with that word in their titles, ONLY=pair those of all three kinds of pairs
	@PROFILE='$(PROFILE)' tests/vm/run.sh $(if $(KEEP),--keep) $(if $(ONLY),--only $(ONLY))

arm64-test: ## test arm64: the agent's code, the builds, and an arm64 nat-vpn booted beside this machine's images; ONLY=code, builds or boot
	@tests/setup/debian.sh images $(if $(filter code,$(ONLY)),,arm64)
	@tests/arm64/run $(ONLY)

packer-test: build ## check packer/ with a current Packer: fmt, validate, and builds of the AMIs against moto, for both architectures; ONLY=native
	@tests/setup/debian.sh images $(if $(ONLY),,$(OTHER))
	@CROSSWAN_MOTO=$$($(BUILT)/crosswan-lab moto) ONLY=$(ONLY) PROFILE='$(PROFILE)' tests/packer/run

lint: ## run rustfmt, clippy with warnings denied, shellcheck, and check the licences and sources of what is linked in
	@tests/setup/debian.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	shellcheck -x .ci/run tests/setup/*.sh tests/fuzz/{run,rustc} tests/vm/*.sh images/*.sh images/deb/build.sh tests/kernel/*.sh images/deb/*/{contents,postinst,prerm,postrm} images/guard/{guard,forwarding} tests/packer/run tests/arm64/run tests/packer/*.sh packer/*.sh
	cargo deny --log-level error check licenses bans sources
	@if cargo deny --log-level off fetch db; then cargo deny check advisories; else echo 'lint: the advisories were not checked, because their database cannot be fetched'; fi

fmt: ## format the code
	cargo fmt --all

clean: ## remove what was built
	cargo clean

build: setup
	@[[ -e $(BUILT)/crosswan ]] || echo 'building: about five minutes the first time, most of them for the EC2 SDK' >&2
	cargo build --locked --workspace --bins

setup:
	@tests/setup/debian.sh

setup-fuzz:
	@tests/setup/debian.sh fuzz

# The test of gateways with different versions; the lab has no network to fetch them by.
setup-strongswan:
	@for suite in trixie testing; do tests/setup/strongswan.sh $$suite >/dev/null || exit; done

setup-images:
	@tests/setup/debian.sh images
