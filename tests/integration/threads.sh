#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Many threads read, write, reallocate and free memory of their own and of each other, and give absent pages to system
# calls; every byte is compared with what it must be. WEIR_TEST_SEED=N repeats a run.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
seed=${WEIR_TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
say "seed $seed"

needs "$BIN/threads" -s "$seed"
[ "$need_status" -eq 0 ] || failed_run huge "expected status 0 at 8G with seed $seed; seen $need_status"
limit=$((need / 4))
under quarter $limit "$BIN/threads" -s "$seed"
cat "$tmp/quarter.out"
[ "$status" -eq 0 ] || failed_run quarter "expected status 0 at 1/4 with seed $seed; seen $status"
check_paged quarter
check_peak quarter "$limit" "$need"
