#!/bin/sh
# See that Prometheus' promtool is there, which checks alert rules; no Prometheus is started.
set -eu

command -v promtool >/dev/null 2>&1 && exit 0
sh "$(dirname "$0")/apt.sh" prometheus
if command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet prometheus 2>/dev/null; then
    echo "note: the package also started a system service, which midge does not use" \
        "(to end it: systemctl disable --now prometheus)" >&2
fi
