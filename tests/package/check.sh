#!/bin/sh
# check.sh FOLDER: look at the Debian packages in FOLDER: what they hold, what lintian says where it is installed, and
# whether the agent of one that fits this machine's Python starts, with what the package holds and nothing else.
set -eu

fail() {
    echo "$1: $2" >&2
    exit 1
}

starts() {
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    dpkg-deb --extract "$1" "$unpacked"
    lib=$(echo "$unpacked"/opt/midge/versions/*/lib)
    for check in 'import sys; from edge_agent.main import main; main(["check", "--config", "/nowhere"])' \
        'import ai_edge_litert.interpreter, cryptography.x509, numpy, PIL.Image, pydantic, paho.mqtt.client, msgpack'; do
        env -i PYTHONPATH="$lib" /usr/bin/python3 -sP -c "$check" || fail "$1" "does not start"
    done
    rm -rf "$unpacked"
    trap - EXIT
    echo "  starts with $(/usr/bin/python3 --version)"
}

here=$(dpkg --print-architecture)
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for package in "$1"/*.deb; do
    name=$(dpkg-deb --field "$package" Package)
    echo "$(basename "$package"): $(($(stat -c %s "$package") / 1000000)) MB, installed $(dpkg-deb --field "$package" Installed-Size) kB"
    dpkg-deb --contents "$package" >"$package.txt"
    grep -q "/$name.service$" "$package.txt" || fail "$package" "has no unit"
    ! grep -v '^d' "$package.txt" | grep -vq 'root/root' || fail "$package" "has files that are not root's"
    ! grep -E '\.pyc$|/tests/' "$package.txt" | grep -E '/(host|broker|edge_agent|aggregator|deploy)/' || fail "$package" "has what is made or tested"
    rm "$package.txt"
    if command -v lintian >/dev/null 2>&1; then
        lintian --allow-root --fail-on error --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog "$package"
    fi
    case $(dpkg-deb --field "$package" Architecture):$(dpkg-deb --field "$package" Depends) in
    "$here":*"python3 (>= $python)"*) starts "$package" ;;
    esac
done
