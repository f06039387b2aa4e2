# SPDX-License-Identifier: BSD-2-Clause
# A thin front of Meson: everything that matters is in meson.build.

PREFIX = /usr/local

.PHONY: all run test bench check soak install clean

# build/weir, with optimisation and debug information
all: build/build.ninja
	ninja -C build

build/build.ninja:
	meson setup --prefix=$(PREFIX) build

# The main job: sort(1) in a quarter of the memory that it needs
run:
	sh tools/run

test: all
	meson test -C build --no-rebuild --print-errorlogs --num-processes $$(($$(nproc) + 1))

bench: all
	build/weir bench fault
	build/weir bench pool

# Unit and stress tests under ASan and UBSan, then under TSan
check:
	sh tools/check

# Everything at once while things go wrong, for 10 minutes: make soak SECONDS=60 SEED=1
SECONDS = 600
soak: all
	build/tests/stress/soak $(if $(SEED),--seed $(SEED)) $(SECONDS)

# PREFIX counts where build/ is made new; DESTDIR as usual
install: all
	meson install -C build --no-rebuild

clean:
	rm -rf build build-*
