# shellcheck shell=bash
# bash completion of fsyncfs and fsyncfs-server. Which words there are is the programs' business: they are asked.

# Sets `typed` to the words up to the cursor as they were typed: readline ends a word also at '=' and ':'.
_fsyncfs_words() {
    local rest=${COMP_LINE:0:COMP_POINT} piece i
    typed=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if ((i == 0)) || [[ $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            typed+=("")
        fi
        piece=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || piece=$rest
        typed[-1]+=$piece
        rest=${rest#"$piece"}
    done
}

_fsyncfs() {
    local -a typed
    local ask=complete line word before
    _fsyncfs_words
    [[ ${1##*/} == fsyncfs-server ]] && ask=--complete
    before=${typed[-1]%"$2"} # readline keeps this, and replaces $2
    COMPREPLY=()
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        case $word in
        :files | :dirs)
            compopt -o filenames
            while IFS= read -r word; do
                COMPREPLY+=("$word")
            done < <(if [[ $line == :dirs ]]; then compgen -d -- "$2"; else compgen -f -- "$2"; fi)
            ;;
        *)
            if [[ $word == *[=/] ]]; then
                compopt -o nospace
            fi
            if [[ $word == *[[:blank:]]* ]]; then
                printf -v word %q "$word"
            fi
            COMPREPLY+=("${word#"$before"}")
            ;;
        esac
    done < <("$1" "$ask" "${typed[@]:1}" 2>/dev/null)
}

complete -F _fsyncfs fsyncfs fsyncfs-server
