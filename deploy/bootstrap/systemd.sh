#!/bin/sh
# See that systemd's own checks of units can be run; nothing of it is started.
set -eu

command -v systemd-analyze >/dev/null 2>&1 || sh "$(dirname "$0")/apt.sh" systemd
