#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What cannot work is refused before anything has started: one clear message on standard error that says what to do,
# nothing on standard output, and 125, 126 or 127.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_userfaultfd
marker=$tmp/marker
bad=0

# refused STATUS PATTERN ARGS...: `weir ARGS...` is refused, with a message that matches PATTERN. All are tried before
# the test fails.
refused()
{
	expected=$1
	pattern=$2
	shift 2
	rm -f "$marker"
	timeout -k 5 "$patience" "$WEIR" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	seen=$?
	why=
	[ $seen -eq "$expected" ] || why="status $seen"
	[ ! -s "$tmp/out" ] || why="$why; something on standard output"
	[ ! -e "$marker" ] || why="$why; the program has run"
	[ "$(lines_like "$tmp/err" '^weir: ')" = 1 ] || why="$why; not one line that starts with 'weir: '"
	head -n 1 "$tmp/err" | grep -q '^weir: ' || why="$why; another first line"
	[ "$(wc -l <"$tmp/err")" -le 4 ] || why="$why; more than 4 lines"
	head -n 1 "$tmp/err" | grep -q -i -E -e "$pattern" || why="$why; a message without /$pattern/"
	if [ "$why" ]; then
		say "FAILED: expected status $expected and one message with /$pattern/ of: weir $*"
		say "  seen: ${why#; }"
		sed 's/^/  stderr: /' "$tmp/err"
		bad=$((bad + 1))
	fi
}

# Limits that are none. The message names what was given, and a right one.
for limit in 0 0M 0% banana -5M '' 5MM '64M foo' inf nan 0x10M 1.M 99999999999999999999G 16E 101%; do
	refused 125 'limit.*[0-9][KMG]' run --limit "$limit" -- touch "$marker"
done
refused 125 'limit.*[0-9][KMG]' run --limit=banana -- touch "$marker"
for slots in 0 2 3 513 65536 many; do
	refused 125 'windows' run --limit 64M --kmap $slots -- touch "$marker"
done
for high in 0 65M 101% banana; do
	refused 125 'high.*[0-9]' run --limit 64M --high=$high -- touch "$marker"
done
for container in '' /a a//b .. "a$(printf '\t')b"; do
	refused 125 'container.*nightly' run --limit 64M --container="$container" -- touch "$marker"
done
for codec in foo '' lz5 zstd3 'zstd 3' ZSTD lz4:1; do
	refused 125 'compression.*lz4.*zstd' run --limit 64M --compress="$codec" -- touch "$marker"
done
for level in '' 0 11 -1 x 4294967297; do
	refused 125 'level.*zstd:1 to zstd:10' run --limit 64M --compress="zstd:$level" -- touch "$marker"
done
refused 125 'pair, follow' run --limit 64M --placement=banana -- touch "$marker"
refused 125 'no module' run --limit 64M --store nbd://localhost/x -- touch "$marker"
refused 125 'no module' run --limit 64M --store rados://pool -- touch "$marker"
refused 125 'none' run --limit 64M --store banana -- touch "$marker"
refused 125 'no such folder' run --limit 64M --store "file:$tmp/misspelled" -- touch "$marker"
refused 125 'ENOENT' run --limit 64M --store "file:$tmp/not/there?size=8M" -- touch "$marker"
refused 125 'no file can be made there .ENOENT.; give a folder' run --limit 64M --store file:/proc -- touch "$marker"
echo mine >"$tmp/mine"
refused 125 'not made' run --limit 64M --store "file:$tmp/mine?size=8M" -- touch "$marker"
[ "$(cat "$tmp/mine")" = mine ] || fail "expected a file of somebody else to stay as it is"
# A file that another process holds, for as long as it does.
mkfifo "$tmp/go"
"$WEIR" run --limit 64M --store "file:$tmp/held?size=8M" -- \
	sh -c 'echo >"$1/holds"; cat "$1/go"' sh "$tmp" >/dev/null 2>&1 &
holder=$!
started="$started $holder"
until [ -e "$tmp/holds" ]; do
	kill -0 $holder || fail "expected a program to run with a store of its own"
	sleep 0.01
done
refused 125 'held.*another process uses it; give another name' \
	run --limit 64M --store "file:$tmp/held?size=8M" -- touch "$marker"
echo >"$tmp/go"
wait $holder
# A place that goes while the program runs is told by the next one that it starts, and by its name: not as a fault of userfaultfd.
mkdir "$tmp/goes"
refused 125 "^weir: store file:$tmp/goes/cold.*no such folder" run --limit 64M --store "file:$tmp/goes/cold?size=8M" -- \
	sh -c 'rm -r "$1"; exec touch "$2"' sh "$tmp/goes" "$marker"
refused 125 'limit' run --limit
refused 125 'program' run --limit 64M
refused 125 'program' run --limit 64M --
refused 125 'no-such-option' run --no-such-option --limit 64M -- touch "$marker"
refused 125 'no-such-option' run --limit 64M --no-such-option touch "$marker"
refused 125 'xml' run --limit 64M --stats=xml -- touch "$marker"
refused 125 'no-such-command' no-such-command

# Without a limit: refused as well, if one is required.
"$WEIR" run -- true >/dev/null 2>&1 || refused 125 'limit' run -- touch "$marker"

# Programs that are none.
refused 127 'no-such-program' run --limit 64M -- no-such-program "$marker"
refused 127 'no-such-program' run --limit 64M -- "$tmp/no-such-program" "$marker"
printf '#!/bin/sh\ntouch "$1"\n' >"$tmp/plain.sh"
refused 126 'plain\.sh' run --limit 64M -- "$tmp/plain.sh" "$marker"
refused 126 'store' run --limit 64M -- "$(mkdir "$tmp/store" && echo "$tmp/store")" "$marker"

# Programs that cannot be given the agent.
touch=$(command -v touch)
for static in static static_pie; do
	if [ -x "$BIN/$static" ]; then
		"$BIN/$static" "$marker" || fail "expected $BIN/$static to work alone"
		[ -e "$marker" ] || fail "expected $BIN/$static to leave a marker"
		refused 125 'static' run --limit 64M -- "$BIN/$static" "$marker"
		PATH=$BIN:$PATH refused 125 'static' run --limit 64M -- $static "$marker"
		printf '#!%s\n' "$BIN/$static" >"$tmp/script"
		chmod +x "$tmp/script"
		refused 125 'static' run --limit 64M -- "$tmp/script" "$marker"
	else
		say "$static: not tested, the compiler cannot make one"
	fi
done

# owned OWNER MODE: a copy of touch, and of a shell with a script that asks for it. Only root can give files away; a
# program that is set to its caller's own user is refused by the same rule.
owned()
{
	rm -f "$tmp/set-id" "$tmp/set-id-sh"
	cp "$touch" "$tmp/set-id"
	cp "$(command -v dash || command -v sh)" "$tmp/set-id-sh"
	for copy in set-id set-id-sh; do
		[ "$(id -u)" -ne 0 ] || chown "$1" "$tmp/$copy"
		chmod "$2" "$tmp/$copy"
		[ -u "$tmp/$copy" ] || [ -g "$tmp/$copy" ] || skip "files in $tmp cannot be set-id"
	done
	printf '#!%s\ntouch "$1"\n' "$tmp/set-id-sh" >"$tmp/set-id-script"
	chmod +x "$tmp/set-id-script"
	refused 125 "$3" run --limit 64M -- "$tmp/set-id" "$marker"
	PATH=$tmp:$PATH refused 125 "$3" run --limit 64M -- set-id "$marker"
	refused 125 "$3" run --limit 64M -- "$tmp/set-id-script" "$marker"
}

other=$(id -u nobody 2>/dev/null || echo 65534)
other_group=$(id -g nobody 2>/dev/null || echo 65534)
owned "$other:0" 4755 'set-user-id|setuid'
owned 0:0 4755 'set-user-id|setuid'
owned "0:$other_group" 2755 'set-group-id|setgid'

[ $bad -eq 0 ] || fail "$bad of the refusals above are not as expected"
