#!/bin/sh
# first-boot.sh [FOLDER]: make this machine a device of the federation whose bundle lies in FOLDER, offline, as root.
# The power may go at any step: every boot runs all of it again, until FOLDER is gone.
set -eu

payload=${1:-/boot/firmware/midge}
boot=$(dirname "$payload")
root=${MIDGE_ROOT:-}
opt=$root/opt/midge
etc=$root/etc/midge
units=$root/etc/systemd/system
# Says which bundle is safe on this disk, so that one half erased is never taken again.
taken=$etc/.bundle
# Says that only this folder is left to remove: what is half removed is no damage.
installed=$payload/INSTALLED

say() {
    echo "midge: $*"
}

check() {
    (cd "$payload" && sha256sum --check --quiet --strict SHA256SUMS) && return
    say "$payload is damaged or incomplete: flash the card again"
    exit 1
}

place() { # MODE FILE TARGET
    install -m "$1" "$2" "$3.new"
    sync
    mv "$3.new" "$3"
}

install_versions() {
    mkdir -p "$opt/bin" "$root/usr/local/sbin" "$units"
    place 0755 "$payload/midge-versions" "$opt/bin/midge-versions"
    ln -sfn /opt/midge/bin/midge-versions "$root/usr/local/sbin/midge-versions"
    "$opt/bin/midge-versions" add "$payload/wheels"
}

take_bundle() {
    id=$(cat "$payload/ID")
    [ -e "$taken" ] && [ "$(cat "$taken")" = "$id" ] && return
    (cd "$payload/bundle" && sha256sum --check --quiet --strict SHA256SUMS) || {
        say "the bundle on the card is damaged: flash the card again"
        exit 1
    }
    mkdir -p "$etc"
    for file in "$payload"/bundle/*; do
        case ${file##*/} in
        SHA256SUMS) ;;
        agent.toml | *.crt) place 0644 "$file" "$etc/${file##*/}" ;;
        *) place 0600 "$file" "$etc/${file##*/}" ;;
        esac
    done
    echo "$id" >"$taken.new"
    sync
    mv "$taken.new" "$taken"
    sync
}

# In place, since a file that is only emptied or removed stays readable in the partition.
erase() {
    for file in "$@"; do
        [ -f "$file" ] && shred --iterations=1 --zero --remove "$file"
    done
    sync
}

erase_secrets() {
    erase "$payload"/bundle/*
    [ -e "$payload/erase-network" ] || return 0
    # cloud-init has long made its own settings of it, and misses the file where there is none.
    erase "$boot/network-config"
    echo '{}' >"$boot/network-config"
    sync
}

start() {
    place 0644 "$payload/midge-agent.service" "$units/midge-agent.service"
    place 0644 "$payload/midge-versions.service" "$units/midge-versions.service"
    newest=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${newest:-0}" -ge 254 ]; then
        mkdir -p "$units/midge-agent.service.d"
        place 0644 "$payload/backoff.conf" "$units/midge-agent.service.d/backoff.conf"
    fi
    sync
    systemctl daemon-reload
    systemctl enable --quiet midge-agent.service midge-versions.service
    # A device that was one before keeps what it had, if that is the better one.
    "$opt/bin/midge-versions" switch "$(cat "$payload/wheels/VERSION")" || say "goes on with the version before"
    # Who starts us may be what the agent is ordered after.
    systemctl start --no-block midge-agent.service
}

install_all() {
    say "installing from $payload"
    check
    install_versions
    take_bundle
    erase_secrets
    start
    : >"$installed"
    sync
    say "installed; this device is $(sed -n 's/^device = "\(.*\)"/\1/p' "$etc/agent.toml")"
}

# What starts us goes last: the next boot goes on with it.
remove_payload() {
    find "$payload" -mindepth 1 ! -path "$installed" ! -name first-boot.sh ! -name midge-first-boot.service -delete
    sync
    rm "$payload/first-boot.sh"
    rm -rf "$payload"
    sync
}

[ -e "$installed" ] || install_all
remove_payload
