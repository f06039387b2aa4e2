#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Standard input, output and error are the program's own: weir neither reads, writes nor holds them.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd
mkfifo "$tmp/in" "$tmp/out" "$tmp/ready" "$tmp/go" "$tmp/closed"

# Bytes go through as they are, and nothing is added.
random_file "$tmp/bytes" 3
"$WEIR" run --limit 64M -- sh -c 'cat; echo error >&2' <"$tmp/bytes" 2>"$tmp/run.err" | cat >"$tmp/run.out"
same "$tmp/run.out" "$tmp/bytes" "a pipe through cat"
echo error >"$tmp/expected"
same "$tmp/run.err" "$tmp/expected" "standard error"
# What the program does not read is left for the next one.
seen=$(printf 'one\ntwo\n' | { "$WEIR" run --limit 64M -- sh -c 'read -r line; echo "$line"' && cat; })
[ "$seen" = "one
two" ] || fail "expected one and two from the same standard input; seen: $seen"

# A program whose standard streams are closed gets the same numbers for what it opens as alone.
numbers='
	open my $first, "<", "/dev/null" or exit 1;
	open my $second, "<", "/dev/null" or exit 1;
	open my $out, ">", $ARGV[0] or exit 1;
	print $out join " ", fileno $first, fileno $second, fileno $out;
'
perl -e "$numbers" "$tmp/expected" <&- >&- 2>&- || fail "expected status 0 alone with all streams closed; seen $?"
"$WEIR" run --limit 64M -- perl -e "$numbers" "$tmp/numbers" <&- >&- 2>&-
status=$?
[ $status -eq 0 ] || fail "expected status 0 with all streams closed; seen $status"
same "$tmp/numbers" "$tmp/expected" "the numbers of descriptors where all streams are closed"

# The program pages, so all of weir's threads are there; then it closes its standard input and output, and lives on.
# Its reader must see the end, and its writer a broken pipe, before anything else happens.
cat >"$tmp/closer.pl" <<'PERL'
use POSIX ();
my ($ready, $go) = @ARGV;
my @block;
push @block, "block $_ " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 16000;
$block[$_] =~ /^block (\d+) / && $1 == $_ + 1 or die "block $_ has other contents\n" for 0 .. $#block;
$| = 1;
print "hello\n";
POSIX::close($_) for 0, 1;
open my $out, '>', $ready or die "$ready: $!\n";
print $out "$$\n";
close $out;
open my $in, '<', $go or die "$go: $!\n";
<$in>;
exit 9;
PERL
"$WEIR" run --limit 8M --stats=json --stats-file "$tmp/closer.stats" -- perl "$tmp/closer.pl" "$tmp/ready" "$tmp/go" \
	<"$tmp/in" >"$tmp/out" 2>"$tmp/closer.err" &
weir=$!
remember $weir
perl -e '
	my ($in, $said) = @ARGV;
	$SIG{PIPE} = "IGNORE";
	open my $out, ">", $in or die "$in: $!\n";
	open my $wait, "<", $said or die "$said: $!\n";
	<$wait>;
	my $written = syswrite $out, "nobody reads this\n";
	print defined $written ? "written" : $!{EPIPE} ? "EPIPE" : "$!", "\n";
' "$tmp/in" "$tmp/closed" >"$tmp/writer.out" &
writer=$!
remember $writer
timeout -k 5 "$patience" cat "$tmp/out" >"$tmp/reader.out" &
reader=$!
remember $reader

pid=$(from_fifo "$tmp/ready") || failed_run closer "expected the program to start"
remember "$pid"
wait $reader || failed_run closer "expected the end of the program's output once it has closed it: who holds it open?"
echo hello >"$tmp/expected"
same "$tmp/reader.out" "$tmp/expected" "the output up to its end"
to_fifo "$tmp/closed"
wait $writer
[ "$(cat "$tmp/writer.out")" = EPIPE ] ||
	fail "expected EPIPE on a standard input that the program has closed; seen: $(cat "$tmp/writer.out")"
[ -d "/proc/$pid" ] || failed_run closer "expected the program to live on with its streams closed"
to_fifo "$tmp/go"
wait $weir
status=$?
forget
[ "$status" -eq 9 ] || failed_run closer "expected status 9; seen $status"
check_paged closer
