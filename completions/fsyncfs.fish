# fish completion of fsyncfs and fsyncfs-server. Which words there are is the programs' business: they are asked.

function __fsyncfs_complete --argument-names ask
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l typed (commandline --cut-at-cursor --current-token)
    set -l program $words[1]
    set --erase words[1]
    for line in ($program $ask $words "$typed" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$typed"
            case ':dirs'
                __fish_complete_directories "$typed"
            case '*'
                echo $line
        end
    end
end

complete --command fsyncfs --no-files --arguments '(__fsyncfs_complete complete)'
complete --command fsyncfs-server --no-files --arguments '(__fsyncfs_complete --complete)'
