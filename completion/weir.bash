# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Completion for weir: commands, their options (as --help prints them), processes under weir, and programs to run.

_weir_commands()
{
	"$1" --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p'
}

# _weir_options WEIR COMMAND: as that prints them; those with a value end in '='.
_weir_options()
{
	"$1" "$2" --help 2>/dev/null | grep -oE -e '(^|[ ,])--[a-z][a-z-]*=?' | tr -d ' ,' | sort -u
}

_weir()
{
	local weir=${COMP_WORDS[0]} command=${COMP_WORDS[1]} current=${COMP_WORDS[COMP_CWORD]}
	local before=${COMP_WORDS[COMP_CWORD - 1]} i words=
	COMPREPLY=()

	if [ "$COMP_CWORD" -eq 1 ]; then
		words=$(_weir_commands "$weir")
		mapfile -t COMPREPLY < <(compgen -W "$words offline --help --version" -- "$current")
		return
	fi
	# Behind the program its own arguments: files.
	if [ "$command" = run ]; then
		for ((i = 2; i < COMP_CWORD; i++)); do
			case ${COMP_WORDS[i]} in
			--)
				if [ $((i + 1)) -eq "$COMP_CWORD" ]; then
					mapfile -t COMPREPLY < <(compgen -c -- "$current")
				else
					mapfile -t COMPREPLY < <(compgen -f -- "$current")
				fi
				return
				;;
			esac
		done
	fi
	case $before in
	--stats-file | --trace | --svg) mapfile -t COMPREPLY < <(compgen -f -- "$current") && return ;;
	--placement) words='auto pair follow none' ;;
	--compress) words='lz4 zstd' ;;
	--stats) words='json table' ;;
	--soc) words=$("$weir" cmdq soc 2>/dev/null | awk '{ print $1 }') ;;
	esac
	if [ -z "$words" ]; then
		case $current in
		-*) words=$(_weir_options "$weir" "$command") ;;
		*)
			case $command in
			stat | set | reclaim | online | offline)
				words=$("$weir" stat 2>/dev/null | awk '$1 + 0 { print $1 }')
				[ "$command" != set ] || [[ $before != [0-9]* && $before != *=* ]] ||
					words='max= high= low= swap.max= peak='
				;;
			bench) words='charge cmdq fault kmap paging pool' ;;
			stress) words=fault ;;
			cmdq) words='as dis check run soc commands' ;;
			run) words='--' ;;
			esac
			;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
	[ ${#COMPREPLY[@]} -ne 1 ] || [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
	if [ ${#COMPREPLY[@]} -eq 0 ] && [ "$command" = cmdq ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
	fi
}

complete -F _weir weir
