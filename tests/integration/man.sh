#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Manual pages: each can be made, and has every option that --help prints; every command has one; every public function is in one.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_weir
man=$top/man
commands=$("$WEIR" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
for command in run top stat set reclaim online setup probe bench stress cmdq; do
	case $commands in
	*"$command"*) ;;
	*) fail "expected '$command' in weir --help; seen: $commands" ;;
	esac
done

for command in $commands offline; do
	page=$man/weir-$command.1.scd
	[ "$command" != offline ] || page=$man/weir-online.1.scd
	[ -f "$page" ] || fail "expected a manual page of weir $command: $page"
	"$WEIR" "$command" --help >"$tmp/help" 2>&1 || fail "expected weir $command --help to work: $(cat "$tmp/help")"
	for option in $(grep -oE -e '(^|[ ,[])--[a-z][a-z-]*' "$tmp/help" | tr -d ' ,[' | sort -u); do
		case $option in
		--help | --usage) continue ;;
		esac
		grep -qF -e "$option" "$page" || fail "expected $option, which weir $command --help prints, in $page"
	done
	grep -q -e "^\*$command\*\|weir-$command\*(1)" "$man/weir.1.scd" || fail "expected weir-$command(1) to be named in weir.1.scd"
done
grep -q "weir-online.1" "$man/weir-offline.1" || fail "expected weir-offline.1 to be weir-online.1"

if command -v scdoc >/dev/null; then
	for page in "$man"/*.scd; do
		scdoc <"$page" >"$tmp/page" 2>"$tmp/page.err" && [ -s "$tmp/page" ] || fail "scdoc $page: $(cat "$tmp/page.err")"
	done
fi
if command -v python3 >/dev/null && command -v scdoc >/dev/null; then
	for header in "$top"/include/weir/*.h; do
		[ "${header##*/}" != api.h ] || continue
		grep -q "'${header##*/}'\|: '$(basename "$header" .h)'" "$man/meson.build" || fail "expected a manual page of ${header##*/} in man/meson.build"
		python3 "$man/header.py" name "$header" >"$tmp/page.scd" || fail "expected a page of $header"
		scdoc <"$tmp/page.scd" >"$tmp/page" 2>"$tmp/page.err" || fail "scdoc, of ${header##*/}: $(cat "$tmp/page.err")"
		# shellcheck disable=SC2013 # words
		for function in $(sed -n 's/^WEIR_API.*[ *]\([a-z][a-z0-9_]*\)(.*/\1/p' "$header"); do
			grep -q "$function" "$tmp/page" || fail "expected $function in the page of ${header##*/}"
		done
	done
fi
