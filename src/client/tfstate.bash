# bash completion for tfstate
#
# Commands and options are those that the program's help names.  Lockids and workspaces are
# asked of the server that the command line and the environment name; where that does not
# answer in a second or two, there are none.

# Prints the long options that the help of a command names, each followed by "=" if it takes
# an argument.
_tfstate_options() {
	"$1" "$2" --help 2>/dev/null | sed -En 's/^ +(-[A-Za-z], )?(--[a-z-]+=?).*/\2/p'
	echo --help
}

# Prints the first column of CSV without its heading.
_tfstate_first_column() {
	local line
	read -r line || return
	while read -r line; do
		if [[ $line == \"* ]]; then
			[[ $line =~ ^\"(([^\"]|\"\")*)\"(,|$) ]] || continue
			line=${BASH_REMATCH[1]//\"\"/\"}
		else
			line=${line%%,*}
		fi
		printf '%s\n' "$line"
	done
}

# Prints what a command of tfstate lists that begins with a text.  The other arguments are
# connection options.
_tfstate_names() {
	local program=$1 list=$2 begin=$3
	PGCONNECT_TIMEOUT=2 "$program" "$list" --csv --no-password "${@:4}" "$begin*" 2>/dev/null </dev/null |
		_tfstate_first_column
}

_tfstate() {
	local program=$1 command=${COMP_WORDS[1]} line=${COMP_LINE:0:COMP_POINT}
	local words word before option argument=-1 skip='' connection=() candidates=() candidate prefix

	# readline splits words at "=" and ":"; lockids may have both
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] || words+=('')
	word=${words[-1]}
	prefix=${word%"${word##*[=:]}"}

	if ((${#words[@]} <= 2)); then
		mapfile -t candidates < <("$program" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'
			printf '%s\n' help --help --version)
	else
		# how many arguments come before this word, and the connection options
		before=("${words[@]:2:${#words[@]}-3}")
		for option in "${before[@]}"; do
			if [[ -n $skip ]]; then
				[[ $skip != connection ]] || connection+=("$option")
				skip=
				continue
			fi
			case $option in
				--)
					[[ $command != @(run|terraform|tofu) ]] || {
						argument=-2
						break
					}
					;;
				-[dhpU] | --dbname | --host | --port | --username) connection+=("$option") skip=connection ;;
				-[dhpU]* | --dbname=* | --host=* | --port=* | --username=*) connection+=("$option") ;;
				-[Em]) skip=value ;;
				--*=* | -*)
					[[ $option == *=* ]] || ! _tfstate_options "$program" "$command" | grep -xF -- "$option=" >/dev/null || skip=value
					;;
				*) ((++argument)) ;;
			esac
		done
		((argument >= -1)) || {
			# the command that runs under the locks
			[[ ${before[-1]} == -- ]] && COMPREPLY=($(compgen -c -- "$word")) || COMPREPLY=($(compgen -f -- "$word"))
			return
		}
		option=
		[[ -z $skip ]] || option=${before[-1]}
		[[ $word != --*=* ]] || option=${word%%=*}
		case $option in
			--mode)
				candidates=(session durable)
				[[ $command != @(run|terraform|tofu) ]] || candidates+=(lease)
				;;
			--access) candidates=(write plan) ;;
			--guard) candidates=(require on off) ;;
			--items) mapfile -t candidates < <(compgen -f -- "${word#--items=}") ;;
			--table)
				mapfile -t candidates < <(_tfstate_names "$program" workspaces "${word#--table=}" "${connection[@]}" |
					sed 's,/.*,,' | sort -u)
				;;
			--wait) [[ $command == attach ]] || candidates=(forever) ;;
			'')
				if [[ $word == -* ]]; then
					mapfile -t candidates < <(_tfstate_options "$program" "$command")
				else
					case $command:$((argument + 1)) in
						help:0)
							mapfile -t candidates < <("$program" --help 2>/dev/null |
								sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
							;;
						ls:0 | watch:0 | who:0 | unlock:0 | renew:0 | force-unlock:0)
							mapfile -t candidates < <(_tfstate_names "$program" ls "$word" "${connection[@]}")
							;;
						waiters:0)
							mapfile -t candidates < <(_tfstate_names "$program" waiters "$word" "${connection[@]}")
							;;
						history:0)
							mapfile -t candidates < <(_tfstate_names "$program" history "$word" "${connection[@]}")
							;;
						unfreeze:0)
							mapfile -t candidates < <(PGCONNECT_TIMEOUT=2 "$program" freezes --csv --no-password \
								"${connection[@]}" 2>/dev/null </dev/null | _tfstate_first_column)
							;;
						run:* | lock:0 | freeze:0 | workspaces:0 | versions:0 | cat:0 | resources:0 | outputs:0 | diff:0 | \
							rollback:0 | undelete:0 | erase:0 | verify:0 | repair:0 | prune:0)
							mapfile -t candidates < <(_tfstate_names "$program" workspaces "$word" "${connection[@]}")
							;;
						terraform:0 | tofu:0)
							candidates=(apply console destroy force-unlock import init output plan refresh show state taint
								untaint validate workspace)
							;;
						terraform:* | tofu:*) mapfile -t candidates < <(compgen -f -- "$word") ;;
						import:*) mapfile -t candidates < <(compgen -f -P "${word%"${word#*=}"}" -- "${word#*=}") ;;
						grant:2 | revoke:2) candidates=(lock view force override admin) ;;
					esac
				fi
				;;
		esac
		[[ $word != --*=* ]] || candidates=("${candidates[@]/#/$option=}")
	fi

	COMPREPLY=()
	for candidate in "${candidates[@]}"; do
		[[ -n $candidate && $candidate == "$word"* ]] || continue
		[[ $candidate != *= ]] || compopt -o nospace 2>/dev/null
		printf -v candidate '%q' "$candidate"
		COMPREPLY+=("${candidate#"$prefix"}")
	done
}

complete -F _tfstate tfstate
