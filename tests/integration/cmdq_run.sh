#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir cmdq run: the examples do what they say; what is printed, and the exit status, for each way to end; events and registers
# that change at a step; what is wrong with options is told, ends with 2, and nothing is printed.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_weir
examples=$top/examples/cmdq
cd "$tmp" || exit 1

# run STATUS OPTION...: leaves out and err.
run()
{
	expected=$1
	shift
	"$WEIR" cmdq run "$@" >out 2>err
	seen=$?
	[ $seen -eq "$expected" ] || fail "expected status $expected of cmdq run $*, seen $seen: $(cat out err)"
	[ "$expected" -ge 2 ] || [ ! -s err ] || fail "expected no message of cmdq run $*: $(cat err)"
}

# says LINE...: out has these lines, blanks squeezed.
says()
{
	for line in "$@"; do
		tr -s ' ' <out | grep -qxF -- "$line" || fail "expected '$line' in: $(cat out)"
	done
}

# refused STATUS WORDS OPTION...: 2 for bad input, 125 for the command line
refused()
{
	status=$1
	words=$2
	shift 2
	run "$status" "$@"
	[ ! -s out ] || fail "expected nothing printed by cmdq run $*: $(cat out)"
	grep -qF -- "$words" err || fail "expected '$words' of cmdq run $*: $(cat err)"
}

# --- the examples ---

run 0 --soc mt8173 --event DISP_MUTEX0_STREAM_EOF@1 "$examples/display.cmdq"
says 'ended after 13 steps' '[0x1400c02c] 0x00000001' '[0x1400c030] 0x00000180' '[0x1400c038] 0x01e00280' \
	'[0x1400c03c] 0x00200040' '[0x14020020] 0x00000001' 'interrupt done'
# A frame that ended before the packet began does not count.
run 1 --soc mt8173 --event DISP_MUTEX0_STREAM_EOF@0 "$examples/display.cmdq"
says 'waits at 0x8 (line 21) after 1 steps for event DISP_MUTEX0_STREAM_EOF'
# Bits that the mask leaves alone stay.
run 0 --soc mt8173 --event 53@100 --set 0x1400c030=0xf000 "$examples/display.cmdq"
says '[0x1400c030] 0x0000f180' 'ended after 112 steps'

run 0 --soc mt8192 "$examples/poll.cmdq"
says 'cpr0 0x00000002'
run 0 --soc mt8192 --set 0x1401000c=3@700 "$examples/poll.cmdq"
says 'cpr0 0x00000001'

run 0 --soc mt8192 "$examples/loop.cmdq"
says 'spr2 0x00000200' '[0x1400c700] 0x00000000' '[0x1400cefc] 0x3feffbfe'
[ "$(grep -c '^\[0x1400c' out)" -eq 512 ] || fail "expected 512 entries: $(cat out)"
# The same from words, wherever they lie.
"$WEIR" cmdq as --soc mt8192 --hex "$examples/loop.cmdq" >loop.hex || fail "expected loop.cmdq to assemble"
cp out loop.out
run 0 --soc mt8192 --base 0x123450000 loop.hex
cmp -s out loop.out || fail "expected the same of words: $(diff out loop.out)"
"$WEIR" cmdq as --soc mt8192 "$examples/loop.cmdq" | "$WEIR" cmdq run --soc mt8192 --binary - >out || fail "expected 0"
cmp -s out loop.out || fail "expected the same from standard input: $(diff out loop.out)"

# --- ways to end ---

run 1 --soc mt8192 --max-steps 100 "$examples/loop.cmdq"
grep -q '^ran on .*after 100 steps' out || fail "expected it to run on: $(cat out)"
run 0 --soc mt8192 --until 0x20 "$examples/loop.cmdq"
says 'stopped at 0x20 (line 18) after 4 steps'
printf 'write 0x14000000, 5\n.word 0xff00000000000000\n' >bad.cmdq
run 1 --soc mt8173 bad.cmdq
says 'failed at 0x8 (line 2) after 1 steps: not a command' '[0x14000000] 0x00000005'
printf 'jump_rel +800\n' >away.cmdq
run 1 --soc mt8173 away.cmdq
says 'failed after 1 steps: went to 0x40000320, outside of the packet'
printf 'set_event DISP_OVL0_SOF\nset_event 1000\n' >events.cmdq
run 0 --soc mt8173 events.cmdq
says 'event DISP_OVL0_SOF' 'event 1000'

# --- each step ---

printf 'poll 0x14000000, 3\nread_s spr0, 0x14000004\nfinalize\n' >poll.cmdq
run 0 --soc mt8173 --trace --set 0x14000000=3@2 --set 0x14000004=9 poll.cmdq
says ' 0 0x0000 poll 0x14000000, 3' ' [0x14000000] is 0x00000000' ' 2 0x0000 poll 0x14000000, 3' \
	' [0x14000000] = 0x00000003' ' [0x14000004] is 0x00000009' 'spr0 0x00000009' 'ended after 6 steps'

# --- what is wrong ---

refused 125 'which platform?' loop.hex
refused 125 'no file' --soc mt8192
refused 125 "no platform 'mt1'" --soc mt1 loop.hex
refused 125 "no option '--steps'" --soc mt8192 --steps 3 loop.hex
refused 125 'needs an argument' --soc mt8192 loop.hex --until
refused 125 'expected a number' --soc mt8192 --max-steps many loop.hex
refused 125 'mt8192 has no event NONE' --soc mt8192 --event NONE@3 loop.hex
refused 125 '0 to 0x3ff' --soc mt8192 --event 1024 loop.hex
refused 125 'expected ADDRESS=VALUE' --soc mt8192 --set 0x1000 loop.hex
refused 125 'multiple of 4' --soc mt8192 --set 0x1001=3 loop.hex
refused 125 'multiple of 8' --soc mt8192 --base 4 loop.hex
refused 125 '32 bits' --soc mt8173 --base 0x100000000 loop.hex
refused 2 'none.hex' --soc mt8192 none.hex
printf 'jump\n' >text.cmdq
refused 2 'text.cmdq:1:1' --soc mt8192 text.cmdq
"$WEIR" cmdq run --help | grep -q -- --max-steps || fail "expected help"
