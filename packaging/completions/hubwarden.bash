# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of hubwarden(8) for bash.
_hubwarden() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local verb=${COMP_WORDS[1]}
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W \
            'run status flows top explain check check-config grant grants revoke off on reload replay lists --help --version' -- "$cur")
        return
    fi
    case $verb in
        run)
            if [[ $prev == --config || $prev == --state ]]; then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -W '--config --state --help' -- "$cur")
            fi
            ;;
        off | on)
            if [[ $prev == --state ]]; then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -W '--state --help' -- "$cur")
            fi
            ;;
        top)
            if [[ $prev == --sort ]]; then
                mapfile -t COMPREPLY < <(compgen -W 'cpu credits user' -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -W '--once --every --sort --help' -- "$cur")
            fi
            ;;
        explain)
            mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$cur")
            ;;
        status | flows)
            mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$cur")
            ;;
        replay)
            if [[ $prev == --config || $cur != -* ]]; then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -W '--config --member --cores --generate --users --days --seed
                    --spinners --most --json --help' -- "$cur")
            fi
            ;;
        lists)
            if [[ $prev == import ]]; then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -W 'import remove --name --state --help' -- "$cur")
            fi
            ;;
        check-config)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            ;;
    esac
}
complete -F _hubwarden hubwarden
