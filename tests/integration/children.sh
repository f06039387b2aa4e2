#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Programs that the program starts, or becomes, are managed as well, each with a limit of its own: pipelines of a
# shell, exec, and exec by a program whose memory is elsewhere.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl env nice
need_userfaultfd
limit=$((32 * MiB))

# Alone, each of these has far more resident than the limit and its slack.
cat >"$tmp/write.pl" <<'PERL'
my @line;
push @line, "line $_ of many, " . $_ * 7919 % 1000003 for 1 .. 340000;
print "$_\n" for reverse @line;
PERL
cat >"$tmp/read.pl" <<'PERL'
my (%seen, $sum);
while (my $line = <STDIN>) {
	chomp $line;
	$seen{$line} = $.;
}
$sum = ($sum * 31 + $seen{"line $_ of many, " . $_ * 7919 % 1000003}) % 4294967291 for map { 4 * $_ } 1 .. keys(%seen) / 4;
print scalar(keys %seen), " lines, digest $sum\n";
PERL
cat >"$tmp/exec.pl" <<'PERL'
my @line;
push @line, "line $_ of many, " . $_ * 7919 % 1000003 for 1 .. 200000;
exec @ARGV or die "$ARGV[0]: $!\n";
PERL

# managed NAME PROCESSES COMMAND...: the same output as alone, and no process larger than the limit allows.
managed()
{
	name=$1
	processes=$2
	shift 2
	"$PEAK" --out "$tmp/alone.peak" -- "$@" >"$tmp/alone.out" || fail "expected status 0 alone of: $*"
	alone=$(json "$tmp/alone.peak" peak_rss_bytes) || exit 1
	[ "$alone" -gt $((limit + slack)) ] ||
		fail "expected far more than $((limit + slack)) resident bytes alone, to tell the difference; seen $alone"
	"$PEAK" --cgroup --out "$tmp/$name.peak" -- timeout -k 5 "$patience" "$WEIR" run --limit $limit -- "$@" \
		>"$tmp/$name.out" 2>"$tmp/$name.err"
	status=$?
	[ "$status" -eq 0 ] || failed_run "$name" "expected status 0 of $name; seen $status"
	same "$tmp/$name.out" "$tmp/alone.out" "$name"
	check_peak "$name" $limit "$alone" "$processes"
}

managed pipeline 2 sh -c 'perl "$0/write.pl" | perl "$0/read.pl"' "$tmp"
managed became 1 env A=B nice -n 1 perl "$here/hash.pl" 330000
managed large 1 perl "$tmp/exec.pl" perl "$here/hash.pl" 330000
