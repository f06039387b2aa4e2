#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Completion: what bash offers is what there is, and zsh can read its function and offers the same.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

need_tools bash awk
need_userfaultfd
PATH=$(dirname "$WEIR"):$PATH
export PATH

cat >"$tmp/offer.bash" <<'BASH'
# offer.bash WORD...: what is offered for the last of the words, one a line.
. "$COMPLETION"
complete -p weir >/dev/null || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_weir
printf '%s\n' "${COMPREPLY[@]}"
BASH

# offers WANTED WORD...: the completion of the last word has it.
offers()
{
	wanted=$1
	shift
	COMPLETION=$top/completion/weir.bash bash "$tmp/offer.bash" "$@" >"$tmp/offered" 2>"$tmp/offered.err" ||
		fail "expected completion of: $*; $(cat "$tmp/offered.err")"
	[ ! -s "$tmp/offered.err" ] || fail "expected no message from completion of: $*; seen $(cat "$tmp/offered.err")"
	grep -qxF -e "$wanted" "$tmp/offered" || fail "expected '$wanted' to be offered for: $*; seen $(cat "$tmp/offered")"
}

# Every command, and every option of each as --help prints it.
for command in $("$WEIR" --help | sed -n 's/^  \([a-z]*\) .*/\1/p') offline; do
	offers "$command" weir ''
	for option in $("$WEIR" "$command" --help | sed -n 's/^ .*\(--[a-z][a-z-]*=*\).*/\1/p'); do
		offers "$option" weir "$command" -
	done
done
offers stat weir st
! grep -q top "$tmp/offered" || fail "expected 'st' to offer what begins with it only"
offers --limit= weir run --lim

# Processes under weir.
"$WEIR" run --limit 64M -- sleep 1000 &
pid=$!
remember $pid
tries=0
until "$WEIR" stat "$pid" >"$tmp/out" 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || fail "expected process $pid to be seen: $(cat "$tmp/out")"
	sleep 0.1
done
for command in stat set reclaim online offline; do
	offers "$pid" weir $command ''
done
offers max= weir set "$pid" ''
offers high= weir set "$pid" max=1G h
offers true weir run --limit 1G -- tru
offers pair weir run --placement ''
offers zstd weir run --compress ''
offers paging weir bench p
offers mt8183 weir cmdq dis --soc mt81

# zsh: as bash, in a terminal of its own.
if command -v zsh >/dev/null; then
	zsh -n "$top/completion/_weir" || fail "expected zsh to read completion/_weir"
	cat >"$tmp/offer.zsh" <<'ZSH'
zmodload zsh/zpty || exit 77
zpty z zsh -f -i
read_until() { local all= part; for i in {1..200}; do zpty -r -t z part 2>/dev/null && all+=$part || sleep 0.05; [[ $all == *$1* ]] && break; done; print -r -- "$all"; }
zpty -w z "PS1='ready> '; fpath=($FOLDER \$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-prompt ''; LISTMAX=0; echo on''e"
read_until one >/dev/null
zpty -w -n z "weir $1"$'\t\t'
read_until $2
zpty -d z
ZSH
	zoffers()
	{
		FOLDER=$top/completion timeout -k 5 60 zsh -f "$tmp/offer.zsh" "$1" "$2" >"$tmp/offered" 2>&1
		grep -qF -e "$2" "$tmp/offered" || fail "expected zsh to offer '$2' for: weir $1; seen $(cat "$tmp/offered")"
	}
	zoffers '' reclaim
	zoffers 'stat --js' json
	zoffers 'set ' "$pid"
else
	say "zsh is not installed: its completion is left out"
fi
