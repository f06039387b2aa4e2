#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# weir run --compress: with either codec a program that pages, and its children, which read the copies that were made before the fork
# and make their own, find what they wrote; and zstd is what compresses better.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl
need_userfaultfd

# Every page of it is as hard to compress as any other, whichever are compressed: half digits in no order, where only zstd finds something
# (3.3 bits each), and half the same words again and again.
cat >"$tmp/family.pl" <<'PERL'
sub text {
	my ($text, $x) = ('', $_[0]);
	for (1 .. 16) {
		$text .= sprintf '%09d', $x = ($x * 48271 + 11) % 2147483647 for 1 .. 14;
		$text .= 'the same words ' x 9;
	}
	return $text;
}
sub check { $block[$_] eq text($_) . $_[0] or die "block $_ has other contents\n" for 0 .. $#block }
push @block, text($_) for 0 .. 1999;
for my $child (1, 2) {
	defined(my $pid = fork) or die "fork: $!\n";
	next if $pid;
	check('');
	$_ .= " child $child" for @block;
	check(" child $child");
	exit 0;
}
$_ .= ' parent' for @block;
check(' parent');
wait > 0 && !$? or die "a child ended with $?\n" for 1, 2;
print scalar @block, "\n";
PERL

# saved CODEC: bytes after compression in a thousand before, of all processes.
saved()
{
	"$WEIR" run --limit 4M --compress "$1" --stats=json --stats-file "$tmp/$1.stats" -- perl "$tmp/family.pl" \
		>"$tmp/$1.out" 2>"$tmp/$1.err" || failed_run "$1" "expected status 0 with $1; seen $?"
	[ "$(cat "$tmp/$1.out")" = 2000 ] || failed_run "$1" "expected 2000 blocks with $1; seen $(cat "$tmp/$1.out")"
	while read -r line; do
		printf '%s\n' "$line" >"$tmp/one"
		json "$tmp/one" compressed_bytes_in compressed_bytes_out compressed_faults || fail "expected JSON with $1"
	done <"$tmp/$1.stats" >"$tmp/$1.figures"
	awk '{ in_bytes += $1; out += $2; if ($3 == 0) none = 1 }
		END { if (NR < 1 || none) exit 1; printf "%d\n", out * 1000 / in_bytes }' "$tmp/$1.figures"
}

lz4=$(saved lz4) || fail "expected faults from compressed memory in every process with lz4: $(cat "$tmp/lz4.figures")"
zstd=$(saved zstd) || fail "expected faults from compressed memory in every process with zstd: $(cat "$tmp/zstd.figures")"
say "of 1000 bytes lz4 leaves $lz4, zstd $zstd"
[ "$zstd" -lt $((lz4 * 9 / 10)) ] || fail "expected zstd to leave less than nine tenths of what lz4 leaves ($lz4); seen $zstd"
