#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# kill -9 of a program that uses the library, in the middle of each thing that it does (instances that come and go, regions, windows,
# regions over files, in both modes): nothing of it is left in TMPDIR, and nothing that it had open, or mapped, had a name.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
disk_folder
random_file "$tmp/bytes" 8
build=$(cd "$BIN/../.." && pwd -P) # it may be below /tmp, too
mkfifo "$tmp/ready"

# Whatever is open in any of its tables of descriptors, or mapped: "name", one a line.
held()
{
	# In one process: one a link takes minutes in all, beside a program that never rests.
	find /proc/"$1"/task/*/fd /proc/"$1"/map_files -type l -printf '%l\n' 2>/dev/null | sort -u
}

steps=0
files=0
for step in $(seq 1 100); do
	TMPDIR=$store "$BIN/killed" "$tmp/bytes" "$step" >"$tmp/ready" 2>"$tmp/run.err" &
	killed=$!
	remember $killed
	pid=$(from_fifo "$tmp/ready")
	if [ ! "$pid" ]; then
		wait $killed
		status=$?
		forget
		[ $status -ne 77 ] || skip "$(tail -n 1 "$tmp/run.err")"
		[ $status -eq 0 ] || failed_run run "expected the program to come to its end after $steps steps; seen $status"
		break
	fi
	held "$pid" >"$tmp/held"
	named=$(grep -F -e "$store/" -e /dev/shm/ -e /tmp/ -e /var/tmp/ -e SYSV "$tmp/held" |
		grep -v -e '(deleted)$' -e "^$tmp/bytes\$" -e "^$tmp/run.err\$" -e "^$tmp/ready\$" -e "^$build/")
	[ ! "$named" ] || fail "expected nothing with a name in step $step; seen: $named"
	! grep -q -F "$store/" "$tmp/held" || files=$((files + 1))
	left=$(ls -A "$store")
	[ ! "$left" ] || fail "expected no name in TMPDIR in step $step; seen: $left"
	kill -KILL "$pid" || fail "expected to kill the program in step $step"
	wait $killed
	status=$?
	forget
	[ $status -eq 137 ] || failed_run run "expected status 137 after kill -9 in step $step; seen $status"
	left=$(ls -A "$store")
	[ ! "$left" ] || fail "expected an empty TMPDIR after kill -9 in step $step; left: $left"
	steps=$step
done
# Three instances, of which two have regions over files.
[ "$steps" -eq 17 ] || fail "expected 17 steps; seen $steps"
[ "$files" -ge 10 ] || fail "expected cold pages in a file in most of the steps; seen in $files"
say "killed in each of $steps steps, $files of them with a file of cold pages"
