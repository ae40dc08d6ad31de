#!/bin/sh
# Installs the build over a private view of /usr (an overlay in a mount namespace of its own, so that the machine stays as
# it is), mounts with mount(8) and from WORK/fstab, and prints a.txt of each. Exit code 77: this kernel has no overlayfs.
# Usage: installed.sh WORK SOURCE MOUNTPOINT CACHE
set -eu
if [ "${FSYNCFS_PRIVATE:-}" != 1 ]; then
    FSYNCFS_PRIVATE=1 exec unshare --mount --propagation private "$0" "$@"
fi
work=$1 source=$2 point=$3 cache=$4
build=${FSYNCFS_BUILD:-$(dirname "$0")/../../build}

mkdir "$work/install" "$work/layers"
if ! mount -t tmpfs tmpfs "$work/layers"; then
    echo "no tmpfs can be mounted"
    exit 77
fi
mkdir "$work/layers/upper" "$work/layers/work"
if ! mount -t overlay overlay -o "lowerdir=/usr,upperdir=$work/layers/upper,workdir=$work/layers/work" /usr; then
    echo "no overlay can be mounted on /usr"
    exit 77
fi
DESTDIR="$work/install" meson install -C "$build" --no-rebuild --quiet >&2
cp -a "$work/install/usr/." /usr/
cp -a "$work/install/sbin/." /usr/sbin/ # /sbin is a link to it

mount -t fsyncfs "$source" "$point" -o "cache=$cache"
cat "$point/a.txt"
umount "$point"
mount -T "$work/fstab" "$point"
cat "$point/a.txt"
umount "$point"
