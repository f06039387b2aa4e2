#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# redis-server, which has an allocator of its own (jemalloc), at limits of 1/2, 1/4 and 1/8 of what it needs: filled, changed, under redis-benchmark's
# writes; then each key has what was written last. Once it saves itself meanwhile by a fork, and the file has all of it, too.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools redis-server redis-benchmark redis-cli perl
need_userfaultfd
count=28000
socket=$tmp/redis.sock
patience=120

cli()
{
	timeout -k 5 "$patience" redis-cli -s "$socket" "$@"
}

# answers_now PID: it answers. Fails where it has ended instead.
answers_now()
{
	until [ "$(redis-cli -s "$socket" ping 2>/dev/null)" = PONG ]; do
		kill -0 "$1" 2>/dev/null || fail "expected redis-server to answer; it has ended: $(tail -n 5 "$tmp"/*.out)"
	done
}

# server NAME LIMIT: under weir, in the background.
server()
{
	(
		under "$1" "$2" redis-server --port 0 --unixsocket "$socket" --save '' --dir "$tmp"
		exit "$status"
	) &
	pid=$!
	remember $pid
	answers_now $pid
}

# quit NAME: it ends, by itself.
quit()
{
	cli shutdown nosave >/dev/null
	wait $pid
	status=$?
	forget
	[ $status -eq 0 ] || failed_run "$1" "expected status 0 of redis-server; seen $status"
}

write_keys()
{
	perl "$here/keys.pl" set $count | cli --pipe >"$tmp/pipe" || fail "expected all keys to be set; seen: $(cat "$tmp/pipe")"
	redis-benchmark -s "$socket" -q -n 8000 -r 4000 -d 300 -P 8 -t set,get >"$tmp/bench" 2>&1 ||
		fail "expected redis-benchmark to end; seen: $(tail -n 3 "$tmp/bench")"
	perl "$here/keys.pl" change $count | cli --pipe >"$tmp/pipe" || fail "expected keys to be changed; seen: $(cat "$tmp/pipe")"
}

# compare WHAT: key by key.
compare()
{
	perl "$here/keys.pl" get $count | cli >"$tmp/answers"
	same "$tmp/answers" "$tmp/expected" "$1"
}

perl "$here/keys.pl" expect $count >"$tmp/expected"

server huge 8G
write_keys
compare 'keys at 8G'
quit huge
need=$(stat_of huge peak_managed_bytes) || exit 1
[ "$need" -ge $((8 * MiB)) ] || failed_run huge "expected at least $((8 * MiB)) managed bytes; seen $need: is its memory managed?"
say "redis-server needs $need bytes"

for part in 2 4 8; do
	limit=$((need / part))
	server "1in$part" $limit
	write_keys
	compare "keys at 1/$part"
	quit "1in$part"
	check_paged "1in$part"
	check_peak "1in$part" "$limit" "$need"
done

# Saved by a child, while writes go on.
server save $((need / 4))
write_keys
redis-benchmark -s "$socket" -q -n 20000 -r 4000 -d 300 -P 8 -t set >"$tmp/bench" 2>&1 &
writer=$!
cli bgsave >/dev/null
wait $writer || fail "expected redis-benchmark to end beside the child that saves; seen: $(tail -n 3 "$tmp/bench")"
until [ "$(cli info persistence | grep -c 'rdb_bgsave_in_progress:0')" -eq 1 ]; do
	kill -0 $pid || fail "expected redis-server to go on after its fork"
done
[ "$(cli info persistence | grep -c 'rdb_last_bgsave_status:ok')" -eq 1 ] || failed_run save "expected the child to have saved everything"
compare 'keys after a child has saved them'
quit save
check_paged save

# What it has saved, read by one that is not under weir.
redis-server --port 0 --unixsocket "$socket" --save '' --dir "$tmp" >"$tmp/plain.out" 2>&1 &
pid=$!
remember $pid
answers_now $pid
until [ "$(cli info persistence | grep -c '^loading:0')" -eq 1 ]; do
	kill -0 $pid || fail "expected redis-server to load what was saved"
done
compare 'keys that a child has saved'
quit plain
