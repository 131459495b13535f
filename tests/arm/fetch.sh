#!/bin/sh
# fetch.sh FOLDER: into FOLDER an emulator, and the arm64 Python of each Debian that devices have.
# Needs apt-get and dpkg-deb, no root: packages are downloaded and unpacked, none is installed. What is there
# is not fetched again. DEBIAN_MIRROR names a mirror where the system's own packages are not Debian's.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "$1"
folder=$(cd "$1" && pwd)

. tests/debian.sh

if [ "$(uname -m)" != x86_64 ]; then
    echo "this check emulates aarch64 on x86_64, and this is $(uname -m): run 'make test' on a device instead" >&2
    exit 1
fi
unpack emulator amd64 qemu-user
# One of its fifty emulators is needed.
find "$folder/emulator/usr/bin" -mindepth 1 ! -name qemu-aarch64 -delete
for suite in bookworm trixie; do
    unpack $suite arm64 python3-minimal libpython3-stdlib libstdc++6
done
