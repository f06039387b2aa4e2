# SPDX-License-Identifier: BSD-2-Clause
# json.pl FILE [KEY...]: checks that FILE is exactly one line with one JSON value, and prints the values of the keys
# ("faults", "fault_ns.p50"), with a space between. No module: perl-base has none for JSON.
use strict;
use warnings;

my ($file, @keys) = @ARGV;
open my $in, '<', $file or die "$file: $!\n";
local $/;
my $text = <$in>;

sub wrong
{
	die "$file: not JSON: expected $_[0] at byte " . (pos($text) // 0) . " of: $text\n";
}

sub string
{
	$text =~ /\G"((?:[^"\\\x00-\x1f]|\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4}))*)"/gc or wrong('a string');
	return $1;
}

sub value
{
	my $value;
	if ($text =~ /\G\{\s*/gc) {
		$value = {};
		until ($text =~ /\G\}/gc) {
			!%$value or $text =~ /\G,\s*/gc or wrong('a comma');
			my $key = string();
			!exists $value->{$key} or wrong("another key than $key, which was there");
			$text =~ /\G\s*:\s*/gc or wrong('a colon');
			$value->{$key} = value();
			$text =~ /\G\s*/gc;
		}
	} elsif ($text =~ /\G\[\s*/gc) {
		$value = [];
		until ($text =~ /\G\]/gc) {
			!@$value or $text =~ /\G,\s*/gc or wrong('a comma');
			push @$value, value();
			$text =~ /\G\s*/gc;
		}
	} elsif ($text =~ /\G(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null)/gc) {
		$value = $1;
	} else {
		$value = string();
	}
	return $value;
}

defined $text or die "$file: empty, expected one line of JSON\n";
$text =~ /\A[^\n]+\n\z/ or die "$file: expected one line of JSON, and have:\n$text\n";
my $all = value();
$text =~ /\G\s*\z/gc or wrong('the end');
my @found;
for my $path (@keys) {
	my $at = $all;
	for my $key (split /\./, $path) {
		ref $at eq 'HASH' && exists $at->{$key} or die "$file: no key $path in: $text";
		$at = $at->{$key};
	}
	push @found, $at;
}
print "@found\n" if @found;
