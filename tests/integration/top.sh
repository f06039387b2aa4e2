#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# weir top in a terminal, by tmux: 80x24, wide, narrow and tiny; with no program, one, twenty, and one that ends while it is
# shown; keys; without colours; on a dumb terminal, and on none.
#
# In a network namespace of its own, where that can be had: there it sees its own programs only, and changes no others'.
if [ -z "${WEIR_TOP_APART-}" ] && unshare -n true 2>/dev/null; then
	WEIR_TOP_APART=1 exec unshare -n sh "$0"
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools perl tmux
need_userfaultfd

socket=$tmp/tmux
# A name of this run's, so that programs of other tests do not count.
name=t$$
cp "$(command -v sleep)" "$tmp/$name" || fail "expected to copy sleep"

mux()
{
	tmux -f /dev/null -S "$socket" "$@"
}

end_mux()
{
	ended=$?
	mux kill-server 2>/dev/null
	(exit $ended)
	cleanup
}
trap end_mux EXIT

# Its server ends with its last session, and then for a moment another one cannot start.
mux new-session -d -s base 'exec sleep 1000' || fail "expected tmux to start"

# screen: what is to be seen now.
screen()
{
	mux capture-pane -p -t top >"$tmp/screen" 2>/dev/null || fail "expected weir top to be running"
}

# see PATTERN WHAT: waits until it is on the screen.
see()
{
	tries=0
	until screen && grep -q -e "$1" "$tmp/screen"; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || fail "expected '$1' on the screen: $2; seen:
$(cat "$tmp/screen")"
		sleep 0.1
	done
}

# gone PATTERN WHAT
gone()
{
	tries=0
	while screen && grep -q -e "$1" "$tmp/screen"; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || fail "expected '$1' to go from the screen: $2; seen:
$(cat "$tmp/screen")"
		sleep 0.1
	done
}

keys()
{
	mux send-keys -t top "$@"
}

# open_top COLUMNS LINES [VARIABLE=VALUE...]
open_top()
{
	columns=$1 lines=$2
	shift 2
	mux new-session -d -s top -x "$columns" -y "$lines" "env $* '$WEIR' top 2>'$tmp/top.err'; echo status \$?; read -r line" ||
		fail "expected tmux to start"
}

close_top()
{
	keys q
	see 'status 0' "weir top to end with q"
	mux kill-session -t top
}

# fits: no line is wider than the screen, and none is wrapped.
fits()
{
	screen
	[ "$(wc -l <"$tmp/screen")" -le "$2" ] || fail "expected at most $2 lines"
	awk -v w="$1" 'length($0) > w { exit 1 }' "$tmp/screen" || fail "expected at most $1 columns"
}

# start N: so many programs more, which wait.
start()
{
	for _ in $(seq "$1"); do
		"$WEIR" run --limit 64M -- "$tmp/$name" 1000 2>/dev/null &
		last=$!
		remember $last
	done
}

# None of ours; others' tests may run programs of theirs.
open_top 80 24
see 'weir top' "the first line"
see 'q quit' "the last line"
fits 80 24
if [ "${WEIR_TOP_APART-}" ]; then
	see 'No program is under weir' "what there is to do without any"
else
	say "no network namespace of its own: a screen without programs is left out"
fi

# One.
start 1
one=$last
see "$one $name" "a program that has started"
see '\[.*\].* 64M' "its bar and its limit"
see 'PID PROGRAM' "the head"
fits 80 24

# One that ends while it is shown.
kill "$one"
see "$name ($one) has ended" "that the program has ended"
gone "$one $name" "a program that has ended"
forget

# Twenty, more than there are lines, and sorted by pid: the first and, with the last key, the last of them.
start 20
keys s s
see 'by pid' "another order"
keys S
see 'by pressure' "the order before"
keys s
see 'by pid' "another order"
tries=0
until [ "$("$WEIR" stat | grep -c " $name ")" -eq 20 ]; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] || fail "expected 20 programs; seen $("$WEIR" stat)"
	sleep 0.1
done
lowest=$("$WEIR" stat | awk -v name="$name" '$2 == name { pid = $1 } END { print pid }')
for _ in $(seq 60); do keys Down; done
see "$lowest $name" "the last of twenty, after scrolling"
fits 80 24
keys v
see 'by pid, reversed' "the other way round"
keys v

# A limit is changed, wrong ones are refused, and Escape changes nothing.
for _ in $(seq 60); do keys Up; done
for _ in $(seq 60); do keys Down; done
keys l
see 'New limit:' "a prompt"
keys 96M Enter
see 'limit is now 96M' "the new limit"
tries=0
until "$WEIR" stat | grep -q " $name .* 96M "; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || fail "expected a program with a limit of 96M"
	sleep 0.1
done
keys l
see 'New limit:' "a prompt"
keys much Enter
see "'much' is not a size" "what is wrong"
keys r
see 'Reclaim how much:' "a prompt"
keys 5 Escape
gone 'Reclaim how much:' "the prompt, by Escape"
keys o
see 'Online, how much:' "a prompt"
keys 4M Enter
see 'online' "what came"
keys h
see 'choose a program' "the help"
keys h
gone 'choose a program' "the help"

# Wide, narrow, tiny, and back: the same one follows the size of its window.
mux resize-window -t top -x 160 -y 40
see 'STORED .*FLT/S .*PRESS' "all columns"
screen
[ "$(grep -c " $name " "$tmp/screen")" -eq 20 ] || fail "expected all twenty on a wide screen: $(cat "$tmp/screen")"
fits 160 40
mux resize-window -t top -x 40 -y 12
gone 'STORED' "what has no room"
see "$name" "programs on a narrow screen"
fits 40 12
mux resize-window -t top -x 20 -y 4
see 'too small' "a word about a tiny screen"
mux resize-window -t top -x 80 -y 24
see 'LIMIT' "all of it again"
close_top

# Colours: some by default, none with NO_COLOR, and none where the terminal has none.
escapes()
{
	mux capture-pane -e -p -t top | grep -c "$(printf '\033')\\[3[0-7]m"
}
open_top 80 24
see "$name" "programs"
[ "$(escapes)" -gt 0 ] || fail "expected colours"
close_top
open_top 80 24 NO_COLOR=1
see "$name" "programs, with NO_COLOR"
[ "$(escapes)" -eq 0 ] || fail "expected no colours with NO_COLOR"
close_top
open_top 80 24 TERM=vt100
see "$name" "programs, on a terminal without colours"
[ "$(escapes)" -eq 0 ] || fail "expected no colours on a vt100"
close_top

# A terminal that cannot move its cursor, one that nobody knows, and none at all: a plain listing.
for kind in dumb nobody-knows; do
	open_top 80 40 TERM=$kind
	see "^ *[0-9]* $name" "a plain listing"
	see 'status 0' "an end by itself"
	grep -q "cannot move its cursor" "$tmp/top.err" || fail "expected a word about the terminal: $(cat "$tmp/top.err")"
	mux kill-session -t top
done
"$WEIR" top </dev/null >"$tmp/plain" 2>&1 || fail "expected weir top to print without a terminal: $(cat "$tmp/plain")"
[ "$(grep -c " $name " "$tmp/plain")" -eq 20 ] || fail "expected twenty programs: $(cat "$tmp/plain")"
! grep -q "$(printf '\033')" "$tmp/plain" || fail "expected no escape sequences where standard output is no terminal"
"$WEIR" top --delay 0 >"$tmp/out" 2>&1
[ $? -eq 125 ] || fail "expected status 125 for a delay of 0"

# Ended by a signal it leaves the terminal as it was.
open_top 80 24
see "$name" "programs"
shell=$(mux list-panes -t top -F '#{pane_pid}')
# shellcheck disable=SC2046 # words
kill -TERM $(cat "/proc/$shell/task/$shell/children")
see 'status 0' "an end by SIGTERM"
say "weir top: all seen"
