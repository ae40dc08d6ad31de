#!/bin/sh
# Becomes process 1, a systemd, of a machine of its own: a root file system in memory over this one's /usr, into which the build is installed, with WORK/etc as /etc, where what is
# written stays for the next boot, WORK/master as /srv/workspaces, and the source in /src/fsyncfs. To be run in new namespaces (mount, pid, network, uts, ipc, cgroup); what it
# changes otherwise is gone with them. Exit code 77: it cannot be had here.
# Usage: machine.sh WORK [PARAMETER...]; further words are systemd's
set -eu
work=$1
shift
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${FSYNCFS_BUILD:-$source/build}
root=$work/root

cannot() {
    echo "$1"
    exit 77
}

mkdir -p "$root" "$work/layers" "$work/etc/systemd/system"
mount -t tmpfs -o mode=0755 tmpfs "$root" || cannot "no tmpfs can be mounted"
mount -t tmpfs tmpfs "$work/layers"
mkdir "$work/layers/upper" "$work/layers/work"
cd "$root"
mkdir -p usr etc var/lib var/cache run tmp proc sys dev mnt srv root src/fsyncfs old
chmod 1777 tmp
mount --bind "$work/etc" etc
mount -o bind,ro "$source" src/fsyncfs
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$work/layers/upper,workdir=$work/layers/work" usr ||
    cannot "no overlay can be mounted on /usr"
for link in bin sbin lib lib64; do
    ln -s "usr/$link" "$link"
done
DESTDIR="$work/install" meson install -C "$build" --no-rebuild --quiet >&2
cp -a "$work/install/usr/." usr/
cp -a "$work/install/sbin/." usr/sbin/
cp -n /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache etc/
[ -e etc/hosts ] || echo 127.0.0.1 localhost >etc/hosts
printf %032d 1 >etc/machine-id
[ ! -d "$work/master" ] || { mkdir srv/workspaces && mount --bind "$work/master" srv/workspaces; }

mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys # these are the real machine's
mount -t sysfs -o ro sysfs sys || cannot "no sysfs can be mounted"
mount -t cgroup2 cgroup2 sys/fs/cgroup || cannot "no cgroup2 can be mounted"
mount -t tmpfs -o mode=0755 tmpfs dev
mkdir dev/shm dev/pts dev/mqueue dev/hugepages # PrivateDevices= wants them all
ln -s pts/ptmx dev/ptmx
for node in null zero full random urandom tty fuse autofs; do
    if [ -e "/dev/$node" ]; then
        touch "dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    fi
done
ln -s /proc/self/fd dev/fd

# What would reach the real machine, or has no use here and takes long.
for unit in dbus.service dbus.socket systemd-logind.service systemd-udevd.service getty.target systemd-firstboot.service \
    systemd-random-seed.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-modules-load.service \
    systemd-sysctl.service systemd-update-utmp.service systemd-tmpfiles-setup-dev.service sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount dev-mqueue.mount; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done

pivot_root . old
umount -l old
exec env -i container=fsyncfs-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal "$@" <dev/null
