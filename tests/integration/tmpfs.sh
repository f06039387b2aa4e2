#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A TMPDIR that lies in memory is no place for pages that do not fit in memory: the file store goes elsewhere.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
if ! is_memory_fs /dev/shm || [ ! -w /dev/shm ]; then
	skip "/dev/shm is no tmpfs that can be written here"
fi
elsewhere=$(mktemp -d /dev/shm/weir-test.XXXXXX) || exit 1
mkfifo "$tmp/ready" "$tmp/go"
random_file "$tmp/bytes" 64

TMPDIR=$elsewhere "$WEIR" run --limit 8M --stats=json --stats-file "$tmp/run.stats" -- \
	perl "$here/blocks.pl" "$tmp/bytes" "$tmp/ready" "$tmp/go" >"$tmp/run.out" 2>"$tmp/run.err" &
weir=$!
remember $weir
pid=$(from_fifo "$tmp/ready") || failed_run run "expected the program to come to its middle"
remember "$pid"
open_files "$pid" >"$tmp/files"
while read -r fd target; do
	case $target in
	"$tmp"/*) ;; # the program's own streams
	*) ! is_memory_fs "$fd" || fail "expected no file in memory for pages; seen $target" ;;
	esac
done <"$tmp/files"
left=$(ls -A "$elsewhere")
[ ! "$left" ] || fail "expected nothing in a TMPDIR on tmpfs; seen: $left"

to_fifo "$tmp/go"
wait $weir
status=$?
forget
[ "$status" -eq 0 ] || failed_run run "expected status 0; seen $status"
same "$tmp/run.out" "$tmp/bytes" "the bytes that went through memory"
check_paged run
if ! is_memory_fs /var/tmp && [ -w /var/tmp ]; then
	[ "$(stat_of run stored_bytes)" -gt 0 ] || failed_run run "expected pages stored in a file on a disk (/var/tmp)"
fi
