# SPDX-License-Identifier: BSD-2-Clause
# keys.pl set|change|get|expect COUNT: commands for redis-cli, one a line, that set all keys, change every third, or ask for all of them;
# and what the answers must be then.
use strict;
use warnings;

my ($what, $count) = @ARGV;

sub value
{
	my ($i, $changed) = @_;
	my $word = sprintf '%s%d', $changed ? 'changed' : 'value', $i * 2654435761 % 4294967291;

	return substr("$word " x 40, 0, 200 + $i % 300);
}

for my $i (0 .. $count - 1) {
	my $changed = $i % 3 == 0;

	printf "SET mine:%d \"%s\"\n", $i, value($i, 0) if $what eq 'set';
	printf "SET mine:%d \"%s\"\n", $i, value($i, 1) if $what eq 'change' && $changed;
	printf "GET mine:%d\n", $i if $what eq 'get';
	printf "%s\n", value($i, $changed) if $what eq 'expect';
}
