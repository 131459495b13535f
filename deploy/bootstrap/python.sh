#!/bin/sh
# python.sh PYTHON: see that it is new enough, and that it can make virtual environments.
set -eu

if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "midge needs Python 3.11 or newer, and '$1' is not: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
"$1" -c 'import ensurepip, venv' 2>/dev/null || sh "$(dirname "$0")/apt.sh" python3-venv
