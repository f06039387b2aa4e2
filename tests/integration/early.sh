#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Programs with libraries that allocate before the agent has begun, with locks of libc's held: they start. So do those who have such libraries.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
patience=30

under early $((8 * MiB)) "$BIN/early"
[ "$status" -eq 0 ] || failed_run early "expected status 0 from a program whose library makes a locale first; seen $status"
[ "$(cat "$tmp/early.out")" = 'has locales' ] || fail "expected its line; seen: $(cat "$tmp/early.out")"
for program in curl wget gdb; do
	command -v $program >"$tmp/where" || continue
	under $program $((16 * MiB)) $program --version
	[ "$status" -eq 0 ] || failed_run $program "expected status 0 from $program --version; seen $status"
done
