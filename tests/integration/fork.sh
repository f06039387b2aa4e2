#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A program that forks while most of its memory is elsewhere: parent and child both see all of it, changes stay apart,
# and the parent is under its limit within 5 s. Where weir cannot hand over it says once that it brought everything in.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

count=200000
need_tools perl
need_userfaultfd
mkfifo "$tmp/ready" "$tmp/go"

perl "$here/hash.pl" $count fork >"$tmp/alone.out" || fail "expected status 0 of the program alone; seen $?"
needs perl "$here/hash.pl" $count
limit=$((need / 4))
bound=$((limit + slack + need * 2 / 100))

"$WEIR" run --limit $limit --stats=json --stats-file "$tmp/fork.stats" -- \
	perl "$here/hash.pl" $count fork "$tmp/ready" "$tmp/go" >"$tmp/fork.out" 2>"$tmp/fork.err" &
weir=$!
remember $weir
parent=$(from_fifo "$tmp/ready") || failed_run fork "expected the parent to come through its fork"
remember "$parent"

# The one time that is promised: 5 s after the fork, whatever the child does meanwhile.
perl -e '
	my ($pid, $bound) = @ARGV;
	my ($until, $rss) = (time + 6, 0);
	while (time < $until) {
		open my $in, "<", "/proc/$pid/status" or die "the parent is gone: $!\n";
		($rss) = map { /^VmRSS:\s+(\d+)/ ? $1 * 1024 : () } <$in>;
		if ($rss <= $bound) {
			print "parent back at $rss bytes, bound $bound\n";
			exit 0;
		}
		select undef, undef, undef, 0.02;
	}
	die "the parent has $rss bytes resident 5 s after its fork, expected at most $bound\n";
' "$parent" $bound || failed_run fork "expected the parent back under its limit within 5 s"

to_fifo "$tmp/go"
wait $weir
status=$?
forget
[ "$status" -eq 0 ] || failed_run fork "expected status 0 of parent and child; seen $status"
same "$tmp/fork.out" "$tmp/alone.out" "the digests of parent and child"
check_paged fork
said=$(lines_like "$tmp/fork.err" '^weir: .*fork')
[ "$said" -le 1 ] ||
	failed_run fork "expected at most one line on standard error about the fork (it forks twice); seen $said"
handed=$(stat_of fork forks_handed_over)
[ $((handed + 2 * said)) -eq 2 ] ||
	failed_run fork "expected two children that were handed over, or one line that says why not; seen $handed and $said"
