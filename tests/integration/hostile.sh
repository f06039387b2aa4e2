#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What programs may do and a paged heap could get wrong, one case each (hostile.c): it ends, with the right bytes.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
patience=120
for case in signals stacks joins guard c11 limits over alignment; do
	under "$case" 2M "$BIN/hostile" "$case"
	[ "$status" -eq 0 ] || failed_run "$case" "expected status 0 from the case $case; seen $status"
	check_paged "$case"
done

# Where it is not refused, root would bring all address space in: a limit on that keeps the machine alive.
under mlockall 4M sh -c 'ulimit -v 1000000 && exec "$1" run --limit 4M -- "$2" mlockall' sh "$WEIR" "$BIN/hostile"
[ "$status" -eq 0 ] || failed_run mlockall "expected status 0 after mlockall; seen $status"
[ "$(lines_like "$tmp/mlockall.err" 'mlockall is refused')" -eq 1 ] ||
	failed_run mlockall "expected one line about mlockall on standard error"

# Address space for a heap is taken from what there is.
# shellcheck disable=SC3045 # dash and bash have it
(ulimit -v 2000000 && exec "$WEIR" run --limit 4M -- "$BIN/hostile" guard) ||
	fail "expected status 0 under ulimit -v 2000000; seen $?"

# A fork that has nothing to bring in says nothing; one that has must not end a program whose standard error nobody reads.
"$WEIR" run --limit 64M -- sh -c 'true | true' 2>"$tmp/shell.err" || fail "expected status 0 from a shell; seen $?"
[ ! -s "$tmp/shell.err" ] || fail "expected no line from a shell that forks; seen: $(cat "$tmp/shell.err")"
