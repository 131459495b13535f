#!/bin/sh
# See that a Mosquitto can be started; its own service is neither needed nor touched.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"

command -v mosquitto >/dev/null 2>&1 && exit 0
sh "$(dirname "$0")/apt.sh" mosquitto
if command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet mosquitto 2>/dev/null; then
    echo "note: the package also started a system service, which midge does not use" \
        "(to end it: systemctl disable --now mosquitto)" >&2
fi
