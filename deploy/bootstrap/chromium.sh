#!/bin/sh
# See that a browser without a window can be driven, for the tests of the dashboard.
set -eu

command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 && exit 0
sh "$(dirname "$0")/apt.sh" chromium chromium-driver
