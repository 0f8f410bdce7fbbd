# The short names of what one does here; the work is in scripts/ and cargo.
PREFIX ?= /usr/local
PROFILE ?= release

.PHONY: help setup build install demo test soak bench clean

help:
	@echo 'make setup   install what is missing on Debian (MPI, libclang, numpy in .venv)'
	@echo 'make build   the command panta and the examples, optimised'
	@echo 'make install PREFIX=DIR   the command, libpanta and what C, C++ and Fortran need'
	@echo 'make demo    a simulation and an analysis, coupled live; images in demo/'
	@echo 'make test    format, lints, tests, C, CMake, Python, a short coupled run'
	@echo 'make soak    hours of simulated faults, and miri where it is installed'
	@echo 'make bench   what panta bench measures on this machine'

setup:
	@scripts/setup

build:
	cargo build --release --bin panta
	cargo build --release -p gray-scott -p analysis

install:
	@scripts/install '$(DESTDIR)$(PREFIX)' --profile '$(PROFILE)'

demo: setup
	@scripts/demo

test:
	@scripts/test

soak:
	@scripts/soak

bench:
	cargo run --release --bin panta -- bench

clean:
	cargo clean
	rm -rf demo
