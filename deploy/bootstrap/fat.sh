#!/bin/sh
# See that FAT partitions inside of image files can be made and written, without root.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"

command -v mcopy >/dev/null 2>&1 && command -v mkfs.fat >/dev/null 2>&1 && exit 0
sh "$(dirname "$0")/apt.sh" mtools dosfstools
