#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# kill -9 in the middle of a run that has most of its memory in the file store: no file is left behind.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
disk_folder
mkfifo "$tmp/ready" "$tmp/go"
random_file "$tmp/bytes" 64

TMPDIR=$store "$WEIR" run --limit 4M -- perl "$here/blocks.pl" "$tmp/bytes" "$tmp/ready" "$tmp/go" \
	>"$tmp/run.out" 2>"$tmp/run.err" &
weir=$!
remember $weir
pid=$(from_fifo "$tmp/ready") || failed_run run "expected the program to come to its middle"
remember "$pid"

# Its file: without a name, in the folder that was asked for, and with most of the memory in it.
left=$(ls -A "$store")
[ ! "$left" ] || fail "expected no name in TMPDIR while the program runs; seen: $left"
blocks=0
open_files "$pid" >"$tmp/files"
while read -r fd target; do
	case $target in
	"$store"/*"(deleted)") blocks=$((blocks + $(stat -L -c %b "$fd"))) ;;
	"$store"/*) fail "expected only unlinked files in TMPDIR; seen $target" ;;
	esac
done <"$tmp/files"
[ $((blocks * 512)) -ge $((32 * MiB)) ] || {
	cat "$tmp/files" >&2
	failed_run run "expected an unlinked file of at least $((32 * MiB)) bytes in $store, holding most of 64 MiB of" \
		"random bytes at a limit of 4M; seen $((blocks * 512)) in the files above"
}

[ "$(grep -c -F -e "$store" "$tmp/run.err")" -eq 1 ] ||
	failed_run run "expected one line on standard error that says where the file is: $store"

kill -KILL "$pid" || fail "expected to kill the program"
wait $weir
status=$?
forget
[ "$status" -eq 137 ] || failed_run run "expected status 137 after kill -9; seen $status"
left=$(ls -A "$store")
[ ! "$left" ] || fail "expected an empty TMPDIR after kill -9; left: $left"
