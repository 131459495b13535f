#!/bin/sh
# pid1.sh ROOT CONSOLE: systemd as process 1 of new namespaces, on a copy of this machine whose changes are forgotten.
# ROOT/over is laid over /, ROOT/out is /out, and ROOT/paths names what becomes a folder of /opt/under-test.
set -eu
mount --make-rprivate /
mkdir -p "$1/t"
mount -t tmpfs tmpfs "$1/t"
mkdir "$1/t/up" "$1/t/work" "$1/t/root"
cp -a "$1/over/." "$1/t/up/"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/t/up,workdir=$1/t/work" "$1/t/root"
cd "$1/t/root"
mkdir old out
mount --bind "$1/out" out
while read -r name path; do
    mkdir -p "opt/under-test/$name"
    mount --bind "$path" "opt/under-test/$name"
done <"$1/paths"
mount -t proc proc proc
mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
touch dev/console
mount --bind "$2" dev/console
for folder in run tmp; do mount -t tmpfs tmpfs $folder; done
pivot_root . old
umount -l old
# As a container manager leaves it: credentials are mounted by a child and have to reach the service.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=under-test.target --log-target=console --show-status=no
