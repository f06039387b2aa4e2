#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# stress-ng writes memory by all of its methods and verifies it, at 1/2, 1/4 and 1/8 of what each of its two workers uses; the peak of each
# process stays within the limit.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools stress-ng
need_userfaultfd
# So that one without a limit would be far above what is allowed.
bytes=$((64 * MiB))
patience=120

# A worker of its own is forked, and maps its memory after that.
for part in 2 4 8; do
	"$PEAK" --cgroup --out "$tmp/stress.peak" -- timeout -k 5 "$patience" "$WEIR" run --limit $((bytes / part)) -- \
		stress-ng --vm 2 --vm-bytes $((2 * bytes)) --vm-method all --verify --vm-ops 120 \
		--temp-path "$tmp" >"$tmp/stress.out" 2>"$tmp/stress.err"
	status=$?
	[ $status -eq 0 ] || failed_run stress "expected status 0 of stress-ng at 1/$part; seen $status"
	[ "$(lines_like "$tmp/stress.err" 'fail|error detected')" -eq 0 ] ||
		failed_run stress "expected no failure that stress-ng has found at 1/$part"
	[ "$(lines_like "$tmp/stress.err" 'successful run completed')" -eq 1 ] ||
		failed_run stress "expected stress-ng to end its run at 1/$part"
	# Itself, and two processes for each worker.
	check_peak stress $((bytes / part)) $bytes 5
done
