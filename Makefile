# Thin front of the scripts under tests/, so that a person, CI and a package build run the same.
#
#   make build   the release binary, man pages and completions
#   make check   what needs no guest: format, lints, docs, pure tests, BPF tests on this kernel
#   make demo    a container with an allowlist, live, in a QEMU guest: the README's example
#   make install [DESTDIR=/somewhere]   puts the built binary and its files in place
#   make deb rpm  packages, into target/packages
#   make fuzz    ten minutes for each reader of foreign bytes (tests/fuzz/run)
#   make bench   how fast it is beside the ways without it, in a guest that counts instructions
#   make bench-full  the same at length, with plots, into tests/bench/results
#   make bench-tail  the slowest answers of 1, 2 and 4 busy containers on a host (tests/bench/tail/run)
#   make bench-hook  how long the hook takes, part by part, and beside other tools
#   make test    everything: check, then the whole suite in guests with both kernels
#
# Each installs what it needs from Debian first and says what; it asks unless YES=1 or CI is set.

CARGO ?= cargo

.PHONY: all bench bench-full bench-hook bench-tail build check deb demo fuzz install rpm test deps fmt clean

all: build

deps:
	@tests/deps build

build: deps
	@packaging/build

check: deps
	@tests/check

install:
	@packaging/install $(DESTDIR)

deb rpm: build
	@packaging/package $@

demo:
	@tests/demo/run

bench: deps
	@tests/bench/run

bench-full: deps
	@tests/bench/run --full --results tests/bench/results

bench-hook: deps
	@tests/bench/hook

bench-tail: deps
	@tests/bench/tail/run

fuzz: deps
	@tests/fuzz/run

test:
	@tests/all

fmt:
	$(CARGO) fmt
	clang-format -i bpf/abi.h bpf/datapath.bpf.c $$(ls bpf/*.h | grep -v vmlinux.h)

clean:
	$(CARGO) clean
