#!/bin/sh
# fetch.sh FOLDER ARCHITECTURE: into FOLDER QEMU, what makes images, and the root filesystem of a guest as a tar file.
# What is there is not fetched again; amd64's takes a minute, arm64's half an hour, because its packages are set up
# in emulation.
set -eu
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ] || [ "$(uname -m)" != x86_64 ]; then
    echo "this check unpacks root filesystems and emulates on x86_64: run it as root on such a machine" >&2
    exit 1
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
architecture=$2
. tests/debian.sh

unpack tools amd64 qemu-system-x86 qemu-system-arm seabios ipxe-qemu mmdebstrap

if [ "$architecture" = arm64 ] && [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    echo "programs of arm64 do not run here: install qemu-user-binfmt (Debian 13) or qemu-user-static first" >&2
    exit 1
fi

root_filesystem() {
    rootfs=$folder/rootfs-$architecture.tar
    [ -e "$rootfs" ] && return
    rm -f "$folder/partial.tar"
    echo "making the root filesystem of an $architecture guest" >&2
    packages=linux-image-cloud-$architecture,systemd-sysv,systemd-resolved,systemd-timesyncd,udev,dbus,cloud-init
    packages=$packages,netplan.io,python3,ca-certificates,iproute2,initramfs-tools,zstd,kmod,e2fsprogs,dosfstools
    # Whether its programs run here is checked above; mmdebstrap would want another package for it.
    PATH="$PATH:$folder/tools/usr/bin" mmdebstrap --quiet --architectures="$architecture" --variant=minbase \
        --skip=check/qemu \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --aptopt='APT::Sandbox::User "root"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$packages" "$suite" "$folder/partial.tar" "deb [signed-by=$keyring] $DEBIAN_MIRROR $suite main"
    mv "$folder/partial.tar" "$rootfs"
}
root_filesystem
