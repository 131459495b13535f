#!/bin/sh
# sshd.sh FOLDER: have FOLDER/usr/sbin/sshd, for tests. Not installed: the package would start a server on this machine.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"

if ! command -v apt-get >/dev/null 2>&1; then exit 0; fi
# The client is no server, and may be installed; without it the tests are left out, too.
command -v ssh >/dev/null 2>&1 || sh "$(dirname "$0")/../../deploy/bootstrap/apt.sh" openssh-client || true
if command -v sshd >/dev/null 2>&1 || [ -x "$1/usr/sbin/sshd" ]; then exit 0; fi
mkdir -p "$1"
cd "$1"
fetch() {
    apt-get -qq download openssh-server libwrap0 >/dev/null 2>&1
}
fetch || { [ "$(id -u)" -eq 0 ] && apt-get -qq update >/dev/null 2>&1 && fetch; } || {
    echo "no openssh-server could be had: tests of installing over ssh are left out" >&2
    exit 0
}
for package in ./*.deb; do dpkg-deb --extract "$package" .; done
