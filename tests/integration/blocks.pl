# SPDX-License-Identifier: BSD-2-Clause
# blocks.pl FILE [READY GO]: reads FILE into memory in blocks, and writes it from there to standard output. With two
# fifos: in between it writes its process id to READY, and waits for a line from GO.
use strict;
use warnings;

my ($file, $ready, $go) = @ARGV;
my @block;
open my $in, '<:raw', $file or die "$file: $!\n";
{
	local $/ = \8192;
	while (my $block = <$in>) {
		push @block, $block;
	}
}
close $in;
if ($ready) {
	open my $out, '>', $ready or die "$ready: $!\n";
	print $out "$$\n";
	close $out;
	open my $wait, '<', $go or die "$go: $!\n";
	<$wait>;
}
binmode STDOUT;
print $_ for @block;
close STDOUT or die "standard output: $!\n";
