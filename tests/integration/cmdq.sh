#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir cmdq as its users see it: the examples assemble, come back from their words, and have no defect; each form of input gives the
# same text; what is wrong is told with file, line and column, ends with 2, and nothing is written; a wrong command line ends with 125.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

examples=$top/examples/cmdq
cd "$tmp" || exit 1

soc_of()
{
	case $1 in
	display) echo mt8173 ;;
	*) echo mt8192 ;;
	esac
}

# same WHAT FILE FILE
same()
{
	cmp "$2" "$3" || fail "expected the same $1 in $2 and $3: $(diff "$2" "$3")"
}

for name in display poll loop; do
	soc=$(soc_of $name)
	"$WEIR" cmdq check --soc "$soc" "$examples/$name.cmdq" >out 2>&1 || fail "expected no defect in $name: $(cat out)"
	[ -s out ] && fail "expected check to say nothing of $name: $(cat out)"
	"$WEIR" cmdq as --soc "$soc" "$examples/$name.cmdq" >$name.bin || fail "expected $name to assemble"
	"$WEIR" cmdq as --soc "$soc" --hex "$examples/$name.cmdq" >$name.hex || fail "expected $name to assemble to hex"
	"$WEIR" cmdq as --soc "$soc" -o $name.o "$examples/$name.cmdq" || fail "expected $name to assemble to a file"
	same words $name.bin $name.o
	"$WEIR" cmdq dis --soc "$soc" --binary $name.bin >$name.text || fail "expected $name to disassemble"
	"$WEIR" cmdq dis --soc "$soc" $name.hex >out || fail "expected $name.hex to disassemble"
	same text $name.text out
	"$WEIR" cmdq as --soc "$soc" - <$name.text >out || fail "expected the text of $name to assemble"
	same words $name.bin out
	"$WEIR" cmdq dis --soc "$soc" --list - <$name.hex >$name.list || fail "expected a listing"
	"$WEIR" cmdq as --soc "$soc" $name.list >out || fail "expected the listing of $name to assemble"
	same words $name.bin out
	# memory order, as od shows 32-bit words
	od -An -v -t x4 $name.bin >$name.pairs
	"$WEIR" cmdq dis --soc "$soc" --pairs $name.pairs >out || fail "expected pairs to disassemble"
	same text $name.text out
	sed 's/^ /[   12.345678] mtk-cmdq 10228000.mailbox: 00000010: /' $name.pairs >$name.log
	"$WEIR" cmdq dis --soc "$soc" --log $name.log >out || fail "expected the log to disassemble"
	same text $name.text out
	for form in --binary:bin --pairs:pairs --log:log; do
		"$WEIR" cmdq check --soc "$soc" ${form%:*} $name.${form#*:} || fail "expected no defect in $form of $name"
	done
	"$WEIR" cmdq check --soc "$soc" $name.hex || fail "expected no defect in $name.hex"
done

"$WEIR" cmdq dis --soc mt8173 display.hex | grep -q '^wfe DISP_MUTEX0_STREAM_EOF$' || fail "expected events by name"
# The same words mean something else on another chip.
"$WEIR" cmdq dis --soc mt8183 display.hex | grep -q '^wfe 53$' || fail "expected 53 to have no name on mt8183"

# A defect: status 1, on standard output, with file and line.
printf 'wfe DISP_OVL0_SOF\n\nwrite_mask 0x14000000, 1\nfinalize\n' >defect.cmdq
"$WEIR" cmdq check --soc mt8173 defect.cmdq >out
[ $? -eq 1 ] || fail "expected status 1 for a defect"
grep -q '^defect.cmdq:3: masked write without a fresh mask' out && [ "$(wc -l <out)" -eq 1 ] ||
	fail "expected one defect in line 3: $(cat out)"

# refused STATUS PATTERN ARGS...: that status, a message, and nothing on standard output nor in made. 2: bad input; 125: the command line.
refused()
{
	expected=$1
	pattern=$2
	shift 2
	rm -f made
	"$WEIR" cmdq "$@" >out 2>err </dev/null
	seen=$?
	[ $seen -eq "$expected" ] || fail "expected status $expected of weir cmdq $*; seen $seen"
	[ -s out ] || [ -e made ] && fail "expected nothing to be written by weir cmdq $*"
	grep -q -e "$pattern" err || fail "expected '$pattern' of weir cmdq $*; seen $(cat err)"
}

head -c 20 display.bin >cut.bin
head -c 24 display.hex >cut.hex
printf '80008001 20000035\n80000000\n' >cut.pairs
printf '[ 1.0] cmdq: 80008001 20000035 80000000\n' >cut.log
printf 'eoc\n wait 1 2\n\nfrob 1\nwfe NO_SUCH\nwfe 1024\nwrite 0x20000000, 1\n' >wrong.cmdq
refused 2 'cut.bin:3:5: expected commands of 8 bytes' dis --soc mt8173 --binary cut.bin
refused 2 'cut.hex:2:1: expected one word of 16 hexadecimal digits a line, found 7' dis --soc mt8173 cut.hex
refused 2 'cut.hex:2:1: ' check --soc mt8173 cut.hex
refused 2 'cut.pairs:2:1: this low half has no high half' dis --soc mt8173 --pairs cut.pairs
refused 2 'cut.log:1:14: an odd number' dis --soc mt8173 --log cut.log
refused 2 'display.cmdq:11:1: expected one word' dis --soc mt8173 "$examples/display.cmdq"
for place in '2:9: expected a comma' "4:1: no command 'frob'; expected a label, or one of" \
	"5:5: mt8173 has no event 'NO_SUCH'; 0 to 1023" '6:5: event 1024 is out of range: 0 to 1023' \
	'7:7: 0x20000000 is in no subsys of mt8173, which has 0x1400xxxx'; do
	refused 2 "wrong.cmdq:$place" as --soc mt8173 -o made wrong.cmdq
	refused 2 "wrong.cmdq:$place" check --soc mt8173 wrong.cmdq
done
refused 125 "no platform 'mt9999'; expected one of: mt6779" dis --soc mt9999 display.hex
refused 125 'soc NAME' dis display.hex
refused 125 'no file' dis --soc mt8173
refused 125 'expected one file' dis --soc mt8173 display.hex poll.hex
refused 125 'expected one of --binary' dis --soc mt8173 --binary --log display.hex
refused 2 'No such file' dis --soc mt8173 nowhere
refused 2 'directory' dis --soc mt8173 .
refused 125 "no option '--hex'" dis --soc mt8173 --hex display.hex
refused 125 'needs an argument' as --soc
refused 125 'expected a number' check --soc mt8173 --base x display.hex
refused 125 'no multiple of 8' as --soc mt8173 --base 4 "$examples/display.cmdq"
seq -f '%016.0f' 1100 | tr '\n' ' ' >long.log
refused 2 'long.log:1:17408: more than 1024 numbers' dis --soc mt8173 --log long.log
refused 125 'reads text' as --soc mt8173 --log display.hex
refused 125 "no command 'link'" link
refused 125 "no platform 'x'" soc x

if [ -w /dev/full ]; then
	"$WEIR" cmdq dis --soc mt8173 display.hex >/dev/full 2>err
	[ $? -eq 2 ] && grep -q 'No space left' err || fail "expected a full disk to be told: $(cat err)"
fi

"$WEIR" cmdq soc | grep -q '^mt8192  *24  *3 ' || fail "expected mt8192 with 24 threads and shift 3"
"$WEIR" cmdq soc mt8173 | grep -q '^event   53  DISP_MUTEX0_STREAM_EOF$' || fail "expected the events of mt8173"
"$WEIR" cmdq commands | grep -q '^write_mask ADDRESS, VALUE|rN\[, MASK\]' || fail "expected the list of commands"
