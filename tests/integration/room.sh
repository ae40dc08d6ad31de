#!/bin/bash
# A machine to try things on: its own network, processes and view of the files. What is written to /usr, /etc, /var, /srv, /mnt and the source folder is written to
# memory, and gone with it. Reads the names of scripts from standard input, and runs them one after the other in one shell that ends with the first failure; after each it says
# "done" on descriptor 3. Exit code 77, with the reason: it cannot be had here.
# Usage: unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private room.sh WORK SOURCE BUILD
set -eu
work=$1 source=$2 build=$3
[ $$ -eq 1 ] || { echo "this is for unshare, see above"; exit 1; }

# Mounts that this machine has are not ours, and must not stay alive in here when they are unmounted there.
umount --all --lazy --types fuse.fsyncfs || true
mkdir -p "$work/layers"
mount -t tmpfs tmpfs "$work/layers" || { echo "no tmpfs can be mounted"; exit 77; }
cover() { # FOLDER: what is there is seen, and stays as it is
    local layer=$work/layers/${1//\//-}
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$1" || { echo "no overlay can be mounted on $1"; exit 77; }
}
for folder in /usr /etc /var "$source"; do
    cover "$folder"
done
# Caches and indexes are not for stacked file systems; the rest is empty.
for folder in /srv /mnt /run /var/cache /var/lib/fsyncfs; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=755 tmpfs "$folder"
done
ip link set lo up
if [ "$build" != "$source/build" ]; then # where pages look for it
    case $build in "$source"/*) ;; *) cover "$build" ;; esac
    rm -rf "$source/build"
    ln -s "$build" "$source/build"
fi

install_programs() {
    DESTDIR="$work/install" meson install -C "$build" --no-rebuild --quiet
    cp -a "$work/install/usr/." /usr/
    cp -a "$work/install/sbin/." /usr/sbin/ # /sbin is a link to it
}

# Who follows a page gives a server a terminal of its own. Here it goes to the background when it is ready, and another one takes its place.
server=
fsyncfs-server() {
    local log=$work/fsyncfs-server.log
    case " $* " in
    *" fence "* | *" --check-config "* | *" --help "*)
        command fsyncfs-server "$@"
        return
        ;;
    esac
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true # the page may have ended it
        wait "$server" || true
    fi
    : >"$log" # not by who is about to be started: what the last one wrote would be taken for his
    command fsyncfs-server "$@" 2>>"$log" &
    server=$!
    until grep -q ': ready' "$log"; do
        kill -0 "$server" || { cat "$log"; return 1; }
        sleep 0.02
    done
}

exec 3>&1 >"$work/room.log" 2>&1
cd "$source"
while read -r script <&4; do
    # shellcheck disable=SC1090 # written by the test
    . "$script" </dev/null
    echo "done" >&3
done 4<&0
