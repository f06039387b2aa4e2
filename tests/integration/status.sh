#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The program's exit status is weir's; a signal ends the program, or is handled by it, as without weir.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
mkfifo "$tmp/ready"

# expect_status STATUS COMMAND...
expect_status()
{
	expected=$1
	shift
	"$@" >"$tmp/run.out" 2>"$tmp/run.err"
	seen=$?
	[ $seen -eq "$expected" ] || failed_run run "expected status $expected, seen $seen: $*"
}

expect_status 0 "$WEIR" run --limit 64M -- true
expect_status 0 "$WEIR" run --limit 64M true
expect_status 1 "$WEIR" run --limit=64M -- false
expect_status 3 "$WEIR" run --limit 1.5G -- sh -c 'exit 3'
expect_status 255 "$WEIR" run --limit 50% -- sh -c 'exit 255'
expect_status 125 "$WEIR" run --limit 64M -- sh -c 'exit 125'
[ ! -s "$tmp/run.err" ] || failed_run run "expected nothing on standard error when the program itself ends with 125"
# The program's own options are its own.
expect_status 4 "$WEIR" run --limit 64M sh -c 'exit $#' sh --limit 0 --stats -x

# Not a status of 143, but really ended by the signal.
# shellcheck disable=SC3045 # where ulimit has no -c, there may be a core file in the folder of the test
ulimit -c 0 2>/dev/null
for signal in TERM:15 INT:2 KILL:9 SEGV:11; do
	number=${signal#*:}
	signal=${signal%:*}
	expect_status $((128 + number)) "$WEIR" run --limit 64M -- \
		perl -e "kill '$signal', \$\$; select undef, undef, undef, 60"
	seen=$(perl -e 'system @ARGV; print $? & 127' "$WEIR" run --limit 64M -- \
		perl -e "kill '$signal', \$\$; select undef, undef, undef, 60")
	[ "$seen" -eq "$number" ] || fail "expected an end by signal $number ($signal); seen $seen"
done

# A program that pages without end until a signal comes. It says READY once it has, and then touches its memory for
# ever; with a handler it notes the signal, and ends by itself with 7.
cat >"$tmp/busy.pl" <<'PERL'
my ($ready, $handled) = @ARGV;
my ($caught, @block) = (0);
$SIG{INT} = sub { $caught++ } if $handled;
push @block, "block $_ " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 16000;
open my $out, '>', $ready or die "$ready: $!\n";
print $out "$$\n";
close $out;
for (my $i = 0; !$caught; $i++) {
	my $n = $i * 7919 % @block;
	$block[$n] =~ /^block (\d+) / && $1 == $n + 1 or die "block $n has other contents\n";
}
print "caught\n";
exit 7;
PERL

# signalled TO WHOM STATUS [HANDLED]: to the program, to the process that was started, or to their group as a terminal
# does it. In the background a shell has SIGINT ignored: perl puts it back.
signalled()
{
	whom=$1
	expected=$2
	perl -e '$SIG{INT} = "DEFAULT"; setpgrp; exec @ARGV or die' "$WEIR" run --limit 8M -- \
		perl "$tmp/busy.pl" "$tmp/ready" ${3:+"$3"} >"$tmp/run.out" 2>"$tmp/run.err" &
	weir=$!
	remember $weir
	pid=$(from_fifo "$tmp/ready") || failed_run run "expected the program to start"
	remember "$pid"
	case $whom in
	program) kill -INT "$pid" ;;
	weir) kill -INT $weir ;;
	group) kill -s INT -- "-$weir" ;;
	esac || fail "expected to signal the $whom"
	wait $weir
	seen=$?
	forget
	[ $seen -eq "$expected" ] || failed_run run "expected status $expected after SIGINT to the $whom; seen $seen"
	[ ! -d "/proc/$pid" ] || fail "expected the program to end with SIGINT to the $whom; it goes on"
	if [ "${3:-}" ]; then
		same "$tmp/run.out" "$tmp/caught" "what a handler of SIGINT saw"
	fi
}

echo caught >"$tmp/caught"
for whom in program weir group; do
	signalled "$whom" 130
	signalled "$whom" 7 handled
done
