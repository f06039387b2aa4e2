#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# examples.sh kv|words: the example programs do what they say with data larger than their limit, and tell who gives them
# wrong arguments what is right.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

EXAMPLES=${EXAMPLES:-$top/build/examples}

# run STATUS NAME ARGS...: an example, with its output in $tmp/run.out and $tmp/run.err.
run()
{
	expected=$1
	name=$2
	shift 2
	timeout -k 5 "$patience" "$EXAMPLES/$name" "$@" >"$tmp/run.out" 2>"$tmp/run.err"
	status=$?
	[ $status -ne 77 ] || skip "$name: $(tail -n 1 "$tmp/run.err")"
	[ $status -eq "$expected" ] || failed_run run "expected status $expected of $name $*; seen $status"
}

# refused STATUS WORDS NAME ARGS...: with a message that has the words, and nothing on standard output.
refused()
{
	words=$2
	code=$1
	shift 2
	run "$code" "$@"
	grep -q -F -e "$words" "$tmp/run.err" || fail "expected '$words' from $*; seen: $(cat "$tmp/run.err")"
	[ ! -s "$tmp/run.out" ] || fail "expected nothing on standard output of $*; seen: $(head -n 3 "$tmp/run.out")"
}

# said FILE EXPRESSION: the one number that sed finds there is not 0.
said()
{
	number=$(sed -n "s/$2/\\1/p" "$tmp/run.$1")
	[ "${number:-0}" -gt 0 ] || fail "expected a number above 0 where '$2' stands; seen: $(cat "$tmp/run.$1")"
}

case ${1-} in
kv)
	run 0 kv 4
	grep -q '^all values are right$' "$tmp/run.out" || fail "expected all values to be right; seen: $(cat "$tmp/run.out")"
	grep -q '^a table of 16 MiB under a limit of 4 MiB$' "$tmp/run.out" || fail "expected a table of 4 limits"
	said out '.*, \([0-9]*\) decompressed.*'
	said out '.*, \([0-9]*\) read from the file.*'
	for wrong in 0 -1 64M 1048577 99999999999999999999 ''; do
		refused 2 "'$wrong' is no limit" kv "$wrong"
		refused 2 'Usage: kv [LIMIT_MIB]' kv "$wrong"
	done
	refused 2 'Usage: kv [LIMIT_MIB]' kv 4 4
	;;
words)
	sh "$top/tools/maketext" "$tmp/text" $((16 * MiB))
	# Words that are longer than a page, at the end of the file and without a newline.
	awk 'BEGIN { for (i = 0; i < 3000; i++) printf "Ab_%d", i % 7; printf "." ; printf "end" }' >>"$tmp/text"
	tr '[:upper:]' '[:lower:]' <"$tmp/text" | tr -cs '[:lower:][:digit:]_' '\n' | sort | uniq -c |
		awk 'NF == 2 { print $1, $2 }' >"$tmp/right"
	run 0 words "$tmp/text"
	same "$tmp/run.out" "$tmp/right" 'words and their counts, as sort | uniq -c has them'
	say "$(wc -l <"$tmp/right") words; $(tail -n 1 "$tmp/run.err")"
	said err '.* \([0-9]*\) pages read from the file$'
	awk '$1 == "limit" { ok = $2 == 1.6 && $6 <= $2 } END { exit !ok }' "$tmp/run.err" ||
		fail "expected a limit of 1.6 MiB, a tenth of the text, that is kept; seen: $(cat "$tmp/run.err")"
	refused 2 'Usage: words FILE' words
	refused 2 'Usage: words FILE' words "$tmp/text" 1 1
	for wrong in 0 -1 1M ''; do
		refused 2 "'$wrong' is no limit" words "$tmp/text" "$wrong"
	done
	refused 1 'No such file' words "$tmp/none"
	refused 1 'not a regular file, or an empty one' words "$tmp"
	: >"$tmp/empty"
	refused 1 'not a regular file, or an empty one' words "$tmp/empty"
	;;
*)
	fail "expected kv or words; seen '${1-}'"
	;;
esac
