#!/bin/sh
# apt.sh PACKAGE...: install packages of Debian or of what descends from it, without a question.
set -eu

if ! command -v apt-get >/dev/null 2>&1; then
    echo "midge needs $*, and this system has no apt-get: install it by other means" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=env
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo true; }; }; then
    as_root="sudo env"
else
    echo "midge needs $*, which only root may install: apt-get install $*" >&2
    exit 1
fi

echo "installing from the system's packages: $*" >&2
$as_root apt-get update -qq </dev/null
# RUNLEVEL keeps a system without systemd from starting services that the packages bring.
$as_root DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null
