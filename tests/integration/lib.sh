# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Shared by the integration tests, which source it first. A test is a program: it ends with 0 if it passed, 77 if it
# cannot run here (and says why), and anything else if it failed (and says what was expected, and what was seen).
#
# By hand, from anywhere: sh tests/integration/NAME.sh [ARGS]; the programs are taken from build/ unless WEIR, PEAK
# and BIN say otherwise. KEEP=1 leaves the test's folder behind.

set -u
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
WEIR=${WEIR:-$top/build/weir}
PEAK=${PEAK:-$top/build/tests/tools/peak}
# shellcheck disable=SC2034 # used by some tests
BIN=${BIN:-$top/build/tests/integration}

MiB=$((1024 * 1024))
# What the process itself may need beyond its limit (its code, libraries and stacks, weir's threads), and 2 % of what
# weir manages for its tables.
slack=$((32 * MiB))
# Nothing here takes a tenth of this, in seconds: who waits so long hangs.
patience=${PATIENCE:-400}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/weir-test.XXXXXX") || exit 1
chmod 755 "$tmp"
started=
elsewhere=
mounted=

cleanup()
{
	code=$?
	trap - EXIT
	for pid in $started; do
		kill -KILL "$pid" 2>/dev/null
	done
	[ ! "$mounted" ] || umount -l "$mounted"
	if [ "${KEEP:-}" ]; then
		echo "left: $tmp"
	else
		rm -rf "$tmp" ${elsewhere:+"$elsewhere"}
	fi
	exit "$code"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say()
{
	printf '%s\n' "$*"
}

# fail WHAT WAS EXPECTED, AND WHAT WAS SEEN
fail()
{
	say "FAILED: $*" >&2
	exit 1
}

skip()
{
	say "skipped: $*"
	exit 77
}

# failed_run NAME WHAT: fails, with the end of what the run said.
failed_run()
{
	failed=$1
	shift
	{
		say "FAILED: $*"
		say "the end of its standard error:"
		tail -n 20 "$tmp/$failed.err"
	} >&2
	exit 1
}

need_tools()
{
	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

need_weir()
{
	[ -x "$WEIR" ] || fail "expected an executable $WEIR; build it, or say where it is with WEIR=PATH"
}

# Without the permission to use userfaultfd only the refusal can be tested (permission.sh).
need_userfaultfd()
{
	need_weir
	"$BIN/may_userfaultfd" || skip "no permission to use userfaultfd here"
}

# remember PID: a process that is ended with the test, whatever happens. forget: all those have ended by themselves.
remember()
{
	started="$started $1"
}

forget()
{
	started=
}

# json FILE KEY...: the values, with a space between; fails unless FILE is one line of JSON.
json()
{
	perl "$here/json.pl" "$@" || return 1
}

# stat_of NAME KEY: one figure of the statistics of a run.
stat_of()
{
	json "$tmp/$1.stats" "$2" || fail "expected one JSON object with $2 in the statistics of the run at '$1'"
}

# under NAME LIMIT PROGRAM ARGS...: runs a program under weir, measured from outside. Leaves $tmp/NAME.out, .err,
# .stats and .peak; $status is its exit status.
under()
{
	run=$1
	run_limit=$2
	shift 2
	rm -f "$tmp/$run.stats" "$tmp/$run.peak"
	"$PEAK" --cgroup --out "$tmp/$run.peak" -- timeout -k 5 "$patience" \
		"$WEIR" run --limit "$run_limit" --stats=json --stats-file "$tmp/$run.stats" -- "$@" \
		>"$tmp/$run.out" 2>"$tmp/$run.err"
	status=$?
	[ $status -ne 124 ] && [ $status -ne 137 ] ||
		failed_run "$run" "expected an end within $patience s: $*; it hung at a limit of $run_limit"
}

# needs PROGRAM ARGS...: sets $need to the bytes that weir manages when the limit never bites, $need_status to the exit
# status; what it wrote is in $tmp/huge.out.
needs()
{
	under huge 8G "$@"
	# shellcheck disable=SC2034 # for the caller
	need_status=$status
	need=$(stat_of huge peak_managed_bytes) || exit 1
	[ "$need" -ge $((8 * MiB)) ] ||
		failed_run huge "expected at least $((8 * MiB)) managed bytes from: $*; seen $need: is its heap managed?"
	[ "$(stat_of huge moved_out)" -eq 0 ] ||
		failed_run huge "expected nothing moved out at a limit of 8G: $*"
}

# check_paged NAME: a run that paged nothing has tested nothing.
check_paged()
{
	paged=$(($(stat_of "$1" compressed_faults) + $(stat_of "$1" stored_faults)))
	moved=$(stat_of "$1" moved_out)
	[ "$paged" -gt 0 ] && [ "$moved" -gt 0 ] ||
		failed_run "$1" "expected paging in the run at '$1'; seen $paged pages brought back, $moved moved out"
}

# check_peak NAME LIMIT NEED [PROCESSES]: the memory seen from outside is within the limit and what it may cost. The
# resident set includes the program's own code and libraries.
check_peak()
{
	bound=$(($2 + slack + $3 * 2 / 100))
	rss=$(json "$tmp/$1.peak" peak_rss_bytes) || exit 1
	memfd=$(json "$tmp/$1.peak" peak_memfd_bytes) || exit 1
	anon=$(json "$tmp/$1.peak" cgroup_anon_peak_bytes) || exit 1
	say "$1: limit $2, bound $bound; resident $rss, memfds $memfd, cgroup's anonymous memory $anon;" \
		"$(json "$tmp/$1.peak" wall_s) s"
	[ $((rss + memfd)) -le "$bound" ] ||
		failed_run "$1" "expected at most $bound bytes ($2 + $slack + 2 % of $3) resident and in memfds;" \
			"seen $rss + $memfd, $((rss + memfd - bound)) too many"
	if [ "$anon" = null ]; then
		say "$1: no memory cgroup could be made: peak not cross-checked"
	else
		[ "$anon" -le $((bound * ${4:-1})) ] ||
			failed_run "$1" "expected at most $((bound * ${4:-1})) bytes of anonymous memory in the" \
				"cgroup; seen $anon, $((anon - bound * ${4:-1})) too many"
	fi
}

# same FILE EXPECTED WHAT: byte for byte.
same()
{
	cmp "$1" "$2" || fail "expected the same bytes as alone: $3; see the first difference above"
}

# lines_like FILE PATTERN: how many lines match (0 where there is no such file).
lines_like()
{
	grep -c -i -E -e "$2" "$1" 2>/dev/null || :
}

# is_memory_fs PATH: does it lie in memory?
is_memory_fs()
{
	case $(stat -f -c %T -- "$1") in
	tmpfs | ramfs) return 0 ;;
	*) return 1 ;;
	esac
}

# disk_folder: sets $store to a fresh folder that is not in memory.
disk_folder()
{
	store=
	if ! is_memory_fs "$tmp"; then
		store=$tmp/store
	elif [ -w /var/tmp ] && ! is_memory_fs /var/tmp; then
		elsewhere=$(mktemp -d /var/tmp/weir-test.XXXXXX) || exit 1
		store=$elsewhere/store
	fi
	[ "$store" ] || skip "neither ${TMPDIR:-/tmp} nor /var/tmp is on a disk; set TMPDIR to a folder that is"
	mkdir "$store"
}

# open_files PID: the ordinary files that the process or any of its threads has open, one "PATH-IN-PROC TARGET" a line;
# its threads may have descriptor tables of their own.
open_files()
{
	for fd in /proc/"$1"/task/*/fd/*; do
		target=$(readlink "$fd") || continue
		case $target in
		/memfd:* | /proc/*) ;;
		/*) [ -f "$fd" ] && say "$fd $target" ;;
		esac
	done
}

# random_file FILE MIB: bytes that no compressor makes smaller.
random_file()
{
	head -c $(($2 * MiB)) /dev/urandom >"$1" || fail "expected to write $2 MiB to $1"
}

# to_fifo FIFO: lets go on who waits for a line.
to_fifo()
{
	timeout -k 5 "$patience" sh -c 'echo go >"$1"' sh "$1" ||
		fail "expected the program to wait at ${1##*/}; it does not"
}

# from_fifo FIFO: one line, or a failure if nothing comes.
from_fifo()
{
	timeout -k 5 "$patience" head -n 1 "$1" || fail "expected a line from the program through ${1##*/}; none came"
}
