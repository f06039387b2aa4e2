#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# --stats: a table for people on standard error; --stats=json: one JSON object as its last line, or in a file; the
# figures agree with each other. Sizes are read as they are written.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl awk
need_userfaultfd
keys="wall_s limit_bytes peak_managed_bytes peak_rss_bytes overhead_bytes faults soft_faults compressed_faults
	stored_faults same_filled moved_out compressed_bytes_in compressed_bytes_out stored_bytes
	fault_ns.p50 fault_ns.p90 fault_ns.p99 fault_ns.max"

# A program that pages, writes on both streams, and ends with 5.
cat >"$tmp/pager.pl" <<'PERL'
my @block;
push @block, "block $_ " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 16000;
$block[$_] =~ /^block (\d+) / && $1 == $_ + 1 or die "block $_ has other contents\n" for 0 .. $#block;
print "output\n";
print STDERR "error\n";
exit 5;
PERL
echo output >"$tmp/output"
echo error >"$tmp/error"

# pager LIMIT OPTION...: the program's own output and status stay as they are.
pager()
{
	"$WEIR" run --limit "$@" -- perl "$tmp/pager.pl" >"$tmp/run.out" 2>"$tmp/run.err"
	seen=$?
	[ $seen -eq 5 ] || failed_run run "expected status 5 with $*; seen $seen"
	same "$tmp/run.out" "$tmp/output" "standard output with $*"
	[ "$(grep -c '^error$' "$tmp/run.err")" -eq 1 ] || failed_run run "expected the program's own line with $*"
}

# in_order WHAT: the figures in $tmp/figures make sense.
in_order()
{
	# shellcheck disable=SC2086
	json "$tmp/figures" $keys >"$tmp/values" || fail "expected JSON with all keys in $1"
	awk '{
		wall = $1; managed = $3; rss = $4; faults = $6; soft = $7; compressed = $8; stored = $9; moved = $11
		in_bytes = $12; out_bytes = $13; p50 = $15; p90 = $16; p99 = $17; max = $18
		for (i = 1; i <= NF; i++)
			if ($i !~ /^[0-9]+([.][0-9]+)?$/)
				wrong = wrong "; figure " i " is no number: " $i
		if (NF != 18) wrong = wrong "; " NF " figures, not 18"
		if (wall <= 0 || wall > 600) wrong = wrong "; wall_s " wall
		if (managed <= 0 || rss <= 0) wrong = wrong "; peaks " managed " and " rss
		if (soft + compressed + stored > faults) wrong = wrong "; more faults by kind than in all"
		if (compressed + stored == 0 || moved == 0) wrong = wrong "; nothing paged"
		if (out_bytes > in_bytes) wrong = wrong "; compressed to more than it was"
		if (!(p50 > 0 && p50 <= p90 && p90 <= p99 && p99 <= max)) wrong = wrong "; fault_ns out of order"
		if (wrong) { print substr(wrong, 3) ": " $0; exit 1 }
	}' "$tmp/values" || fail "expected figures that agree with each other in $1"
}

# On standard error, as the last line.
pager 8M --stats=json
tail -n 1 "$tmp/run.err" >"$tmp/figures"
in_order "the last line of standard error"
[ "$(json "$tmp/figures" limit_bytes)" -eq $((8 * MiB)) ] || fail "expected limit_bytes $((8 * MiB)) for 8M"

# In a file, and then not on standard error.
pager 8M --stats=json --stats-file "$tmp/figures.json"
cp "$tmp/figures.json" "$tmp/figures"
in_order "the file of --stats-file"
[ "$(lines_like "$tmp/run.err" 'peak_managed_bytes')" = 0 ] ||
	failed_run run "expected nothing on standard error where --stats-file names a file"

# The table.
pager 8M --stats
for word in 'per process' '8M' 'faults' 'compressed' 'stored' 'moved out' 'peak' 'wall'; do
	[ "$(lines_like "$tmp/run.err" "$word")" -gt 0 ] || failed_run run "expected '$word' in the table of --stats"
done
[ "$(lines_like "$tmp/run.err" '[{}]')" = 0 ] || failed_run run "expected no JSON in the table of --stats"
esc=$(printf '\033')
! grep -q "$esc" "$tmp/run.err" || failed_run run "expected no colours where standard error is no terminal"

# Children of fork. The kernel tells of forks to those who have CAP_SYS_PTRACE; others' children have no instance, and no statistics.
cat >"$tmp/family.pl" <<'PERL'
my @child;
for my $i (1 .. 4) {
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	if (!$pid) {
		my @block;
		push @block, "block $_ of $i " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 3000;
		$block[$_] =~ /^block (\d+) / && $1 == $_ + 1 or die "block $_ has other contents\n" for 0 .. $#block;
		exit 0;
	}
	push @child, $pid;
}
for (@child) {
	waitpid $_, 0;
	exit 1 if $?;
}
PERL
cat >"$tmp/daemon.pl" <<'PERL'
my $parent = $$;
exit 0 if fork;
select undef, undef, undef, 0.01 while getppid == $parent;
PERL
family()
{
	rm -f "$tmp/family.stats"
	timeout -k 5 "$patience" "$WEIR" run --limit 4M "$@" -- perl "$tmp/family.pl" >"$tmp/run.out" 2>"$tmp/run.err" ||
		failed_run run "expected status 0 of children with $*"
}
if grep -q '^CapEff:.*[89a-f]....$' /proc/self/status; then
	# One line for all, with their sum.
	family --stats=json
	grep '^{' "$tmp/run.err" >"$tmp/figures"
	[ "$(wc -l <"$tmp/figures")" -eq 1 ] || failed_run run "expected one line for a program and its children"
	json "$tmp/figures" faults children.ended children.faults children.moved_out children.peak_managed_bytes children.fault_ns.sum \
		>"$tmp/values" || fail "expected the sum of the children in JSON"
	awk '{ exit !($2 == 4 && $3 > 10 * $1 && $4 > 1000 && $5 > 2000000 && $5 < 5000000 && $6 > 0) }' "$tmp/values" ||
		fail "expected 4 children that faulted and moved pages out; seen $(cat "$tmp/values")"
	# Each its own, too, whole, with pids that differ; and the parent's has the sum as before.
	family --stats=json --stats-children --stats-file "$tmp/family.stats"
	! grep -q '^{' "$tmp/run.err" || failed_run run "expected no statistics on standard error"
	parent=$(sed -n '5s/^{"pid":\([0-9]*\),"program":"perl",.*"children":{"ended":4,.*/\1/p' "$tmp/family.stats")
	[ "${parent:-0}" -gt 0 ] || fail "expected the parent's line behind four others: $(cat "$tmp/family.stats")"
	[ "$(sed -n "s/^{\"pid\":\([0-9]*\),\"forked_by\":$parent,.*/\1/p" "$tmp/family.stats" | sort -u | wc -l)" -eq 4 ] ||
		fail "expected four children of $parent: $(cat "$tmp/family.stats")"
	while read -r line; do
		echo "$line" >"$tmp/figures"
		[ "$(json "$tmp/figures" moved_out)" -ge 0 ] || fail "expected each line to be JSON: $line"
	done <"$tmp/family.stats"
	# Tables into one pipe do not come in between each other.
	family --stats-children
	awk '/^weir: perl/ { tables++; lines = 0 } /^  time lost to faults/ { ends++; if (lines < 20) short++ } { lines++ }
		END { exit !(tables == 5 && ends == 5 && !short) }' "$tmp/run.err" ||
		failed_run run "expected five whole tables"
	# Who outlives the program, a daemon, prints its own: nobody else will.
	rm -f "$tmp/family.stats"
	"$WEIR" run --limit 4M --stats=json --stats-file "$tmp/family.stats" -- perl "$tmp/daemon.pl" || fail "expected status 0"
	tries=0
	until [ "$(wc -l <"$tmp/family.stats")" -eq 2 ]; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || fail "expected a line of a child that outlives its parent: $(cat "$tmp/family.stats")"
		sleep 0.1
	done
	head -n 1 "$tmp/family.stats" | grep -q '"children"' && fail "expected no sum of a child that has not ended"
	tail -n 1 "$tmp/family.stats" | grep -q '"forked_by"' || fail "expected the second line to be the child's"
fi

# What has the number of standard error by the end, and is none, is left alone.
"$WEIR" run --limit 8M --stats -- perl -e 'close STDERR; open my $f, ">", $ARGV[0]; fileno $f == 2 or die; print $f "mine\n"' \
	"$tmp/other" 2>"$tmp/run.err" || fail "expected status 0 of a program that closes standard error"
[ "$(cat "$tmp/other")" = mine ] || fail "expected nothing of weir in a file of the program"
grep -q '^weir: perl' "$tmp/run.err" || fail "expected the table where standard error was"

# Nothing at all where nothing is asked for.
"$WEIR" run --limit 1.5G -- perl "$tmp/pager.pl" >"$tmp/run.out" 2>"$tmp/run.err"
same "$tmp/run.err" "$tmp/error" "standard error without --stats"

# Sizes.
memory=$(awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
for pair in 64M:67108864 1.5G:1610612736 65536K:67108864 2g:2147483648 67108864:67108864 1GiB:1073741824; do
	rm -f "$tmp/size.json"
	"$WEIR" run --limit "${pair%:*}" --stats=json --stats-file "$tmp/size.json" -- true || fail "limit ${pair%:*}"
	seen=$(json "$tmp/size.json" limit_bytes)
	[ "$seen" = "${pair#*:}" ] || fail "expected a limit of ${pair#*:} bytes for ${pair%:*}; seen $seen"
done
rm -f "$tmp/size.json"
"$WEIR" run --limit 50% --stats=json --stats-file "$tmp/size.json" -- true || fail "limit 50%"
seen=$(json "$tmp/size.json" limit_bytes)
# Half of the machine's memory, or of what a group of processes may have of it.
[ "$seen" -gt 0 ] && [ "$seen" -le $((memory / 2 + MiB)) ] ||
	fail "expected at most $((memory / 2)) bytes for 50%; seen $seen"
