# SPDX-License-Identifier: BSD-2-Clause
# hash.pl COUNT [plain | close | fork [READY GO]]: builds a hash of COUNT keys, reads it back, compares every value
# with what it must be, and prints a digest.
#   close  closes every descriptor above 2 before anything else, and again half-way and before the end
#   fork   forks with the hash built; parent and child each change values of their own, and verify all. The parent
#          writes its process id to the fifo READY after the fork, and waits for a line from the fifo GO.
use strict;
use warnings;
use POSIX ();

my ($count, $mode, $ready, $go) = @ARGV;
my (%hash, @changed);

sub close_all
{
	POSIX::close($_) for 3 .. 65535;
}

sub build
{
	my ($from, $to) = @_;
	for my $i ($from .. $to) {
		$hash{"key$i"} = "value of the key $i, " . $i * 7919 % 1000003;
	}
}

# In the order in which it was built, then some in no order at all.
sub verify
{
	my ($who, $every) = @_;
	my ($sum, $wrong, $i) = (0, 0, 1);
	for my $i (1 .. $count) {
		my $value = $hash{"key$i"};
		my $right = "value of the key $i, " . $i * 7919 % 1000003;
		$right .= " as the $who has it" if $every && $i % $every == 0;
		$wrong++ if $value ne $right;
		$sum = ($sum * 31 + unpack('%32C*', $value)) % 4294967291;
	}
	for (1 .. $count / 10) {
		$i = $i * 48271 % 2147483647;
		my $value = $hash{'key' . ($i % $count + 1)};
		$sum = ($sum * 31 + unpack('%32C*', $value)) % 4294967291;
	}
	printf "%s: %d keys, digest %d, %d wrong\n", $who, scalar(keys %hash), $sum, $wrong;
	return $wrong ? 1 : 0;
}

sub change
{
	my ($who, $every) = @_;
	for (my $i = $every; $i <= $count; $i += $every) {
		$hash{"key$i"} .= " as the $who has it";
	}
}

sub fork_and_verify
{
	my $child = fork() // die "fork: $!\n";
	if (!$child) {
		change('child', 101);
		my $code = verify('child', 101);
		close STDOUT;
		POSIX::_exit($code);
	}
	if ($ready) {
		open my $out, '>', $ready or die "$ready: $!\n";
		print $out "$$\n";
		close $out;
		open my $in, '<', $go or die "$go: $!\n";
		<$in>;
	}
	change('parent', 100);
	waitpid $child, 0;
	my $code = $? ? 1 : 0;
	my $again = fork() // die "fork: $!\n";
	if (!$again) {
		POSIX::_exit($hash{'key100'} =~ /parent/ ? 0 : 1);
	}
	waitpid $again, 0;
	$code ||= $? ? 1 : 0;
	return verify('parent', 100) || $code;
}

$mode //= 'plain';
$| = 1;
close_all() if $mode eq 'close';
build(1, $count / 2);
close_all() if $mode eq 'close';
build($count / 2 + 1, $count);
exit fork_and_verify() if $mode eq 'fork';
my $code = verify('program');
close_all() if $mode eq 'close';
exit $code;
