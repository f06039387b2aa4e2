#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# gcc compiles some of weir's own files at limits of 1/2, 1/4 and 1/8 of what its compiler proper needs: the same object files, byte for
# byte; it pages, and the peak of each process stays within the limit.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools gcc as
need_userfaultfd
proper=$(gcc -print-prog-name=cc1)
[ -x "$proper" ] || skip "gcc has no compiler proper of its own ($proper)"
files='src/cmdq/sim.c src/reclaim/reclaim.c'
set -- -O1 -g -std=gnu17 -D_GNU_SOURCE -fPIC -I"$top/src" -I"$top/include"

for file in $files; do
	gcc "$@" -c "$top/$file" -o "$tmp/alone-$(basename "$file").o" || fail "expected $file to compile alone"
done

for file in $files; do
	name=$(basename "$file")
	needs "$proper" -quiet "$@" "$top/$file" -o "$tmp/huge.s"
	[ "$need_status" -eq 0 ] || failed_run huge "expected status 0 of the compiler proper at 8G; seen $need_status"
	say "compiling $file needs $need bytes"
	for part in 2 4 8; do
		limit=$((need / part))
		# The compiler proper alone, which is what pages; then all of it, with the driver and the assembler.
		under "1in$part" $limit "$proper" -quiet "$@" "$top/$file" -o "$tmp/1in$part.s"
		[ "$status" -eq 0 ] || failed_run "1in$part" "expected status 0 of the compiler proper at 1/$part; seen $status"
		same "$tmp/1in$part.s" "$tmp/huge.s" "$file in assembly at 1/$part"
		check_paged "1in$part"
		check_peak "1in$part" "$limit" "$need"
	done
	"$WEIR" run --limit $((need / 4)) -- gcc "$@" -c "$top/$file" -o "$tmp/object.o" 2>"$tmp/gcc.err" ||
		failed_run gcc "expected status 0 of gcc at 1/4; seen $?"
	same "$tmp/object.o" "$tmp/alone-$name.o" "$file as an object file"
done
