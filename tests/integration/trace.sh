#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir run --trace: every page that leaves is in a packet; the packets are the mover's, whole, and without a defect; the program
# is not changed by it.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl awk
need_userfaultfd
cd "$tmp" || exit 1

cat >pager.pl <<'PERL'
my @block;
push @block, "block $_ " . join ' ', map { $_ * 7919 } $_ .. $_ + 300 for 1 .. 12000;
for (1 .. 2) {
	$block[$_] =~ /^block (\d+) / && $1 == $_ + 1 or die "block $_ has other contents\n" for 0 .. $#block;
}
PERL
"$WEIR" run --limit 12M --trace packets --stats=json --stats-file stats -- perl pager.pl >out 2>err ||
	fail "expected the program to end well: $(cat err)"
"$WEIR" cmdq dis --soc weir packets >text || fail "expected the trace to be packets"
"$WEIR" cmdq check --soc weir packets >defects || fail "expected packets without a defect: $(head -n 5 defects)"

# Commands of the mover, by the value that is written to its command register: 1 packs a page, 2 drops a job's.
awk '
	function bad(what) { print "packet " packets + 1 ", command " NR ": " what ": " $0; wrong = 1; exit 1 }
	$1 == "eoc" { if (closing) bad("a second end"); closing = 1; next }
	$1 == "jump_rel" { if (!closing || $2 != "+8") bad("no end before it"); closing = 0; named = 0; packets++; next }
	closing { bad("behind the end") }
	$1 != "write" { bad("not a write") }
	$2 == "0x10000000," { named = 1; next }
	$2 == "0x10000004," || $2 == "0x10000010," { next }
	$2 != "0x10000008," { bad("no register of the mover") }
	$3 == 1 || $3 == 3 { if (!named) bad("no page"); pages[$3]++; next }
	$3 == 2 || $3 == 4 || $3 == 5 { pages[$3]++; next }
	{ bad("no command of the mover") }
	END {
		if (wrong) exit 1
		if (closing) bad("not whole")
		print packets + 0, pages[1] + 0, pages[2] + 0, pages[3] + 0, pages[4] + 0, pages[5] + 0
	}
' text >counts || fail "expected packets of the mover: $(cat counts)"
read -r packets packed dropped gathered written turned <counts
moved=$(json stats moved_out)
[ "$packets" -gt 0 ] && [ "$dropped" -gt 0 ] || fail "expected packets: $(cat counts)"
# A page that comes back clean leaves without being packed again only through a job that looks at it: all were in a packet.
[ "$packed" -ge "$moved" ] || fail "expected every page that left ($moved) in a packet ($packed)"
# Each batch that is written is turned over once, but for those under way when the program ends: three at most.
if [ "$gathered" -eq 0 ] || [ "$turned" -gt "$written" ] || [ $((written - turned)) -gt 3 ]; then
	fail "expected pages to the file, and no batch that is not turned over: $(cat counts)"
fi

# A file that cannot be written: refused before the program begins.
"$WEIR" run --limit 64M --trace /nowhere/packets -- echo began >out 2>err
[ $? -eq 125 ] && [ ! -s out ] && grep -q '/nowhere/packets' err || fail "expected a refusal: $(cat out err)"
# A disk that is full: the program goes on, and it is said.
"$WEIR" run --limit 12M --trace /dev/full -- perl pager.pl >out 2>err || fail "expected the program to end well: $(cat err)"
grep -q 'trace of packets failed (ENOSPC)' err || fail "expected it to be said: $(cat err)"
