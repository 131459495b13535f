#!/bin/sh
# install.sh install|uninstall [--root DIR] [--dry-run] [--offline] [--purge]: put one service of midge in place on a
# Debian machine, or take it away. What to install lies beside this script: `about`, the unit, wheels/ and files/.
# Doing it twice changes nothing. --root writes below DIR and starts nothing; it needs no rights there.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
name='' unit='' folder='' command='' version='' settings='' needed='' extras='' packages=''
# shellcheck disable=SC1091
. "$here/about"

# Not one of somebody's home, which the units' sandbox hides.
python=/usr/bin/python3
verb=${1:-} root='' dry='' offline='' purge='' changed='' restart=''
[ $# -gt 0 ] && shift
while [ $# -gt 0 ]; do
    case $1 in
    --root) root=$2 && shift ;;
    --dry-run) dry=yes ;;
    --offline) offline=yes ;;
    --purge) purge=yes ;;
    *) echo "install.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
units=$root/etc/systemd/system
state=$root/var/lib/midge-$name
needed=${needed:-$settings/$name.toml}
# Files were changed, and systemd was not told yet: what was cut short has to go on with it. A boot tells it anyway.
unfinished=/run/midge-$name.unfinished

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# Print what is done, and do it unless this is a rehearsal.
act() {
    echo "  $*"
    changed=yes
    [ -z "$dry" ] || return 0
    [ -n "$root" ] || : >"$unfinished"
    "$@"
}

# put SOURCE TARGET MODE: have TARGET be a copy of SOURCE, whole or not at all.
put() {
    cmp -s "$1" "$2" && [ "$(stat -c %a "$2")" = "$3" ] && return
    [ -d "$(dirname "$2")" ] || act mkdir -p "$(dirname "$2")"
    case $2 in
    # Somebody may have mended the old one by hand.
    *.toml) [ ! -e "$2" ] || act cp -p "$2" "$2.old" ;;
    esac
    # All else, Mosquitto reads again without losing a connection.
    case $name:${2##*/} in
    broker:mosquitto.conf | broker:"$unit") restart=yes ;;
    esac
    echo "  write $2 (mode $3)"
    changed=yes
    [ -z "$dry" ] || return 0
    mkdir -p "$(dirname "$2")"
    install -m "$3" "$1" "$2.new"
    mv "$2.new" "$2"
}

# systemd NAME ARGUMENT...: have the running systemd do something, if it is this machine that we install on.
systemd() {
    [ -z "$root" ] && [ -d /run/systemd/system ] || return 0
    act systemctl "$@"
}

need_packages() {
    [ -z "$root" ] || return 0
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue
        [ -z "$offline" ] || fail "the Debian package $package is missing, and --offline forbids to fetch it"
        act apt-get update -qq || echo "  going on with what is known of packages"
        act env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package"
    done
}

# Pip without a package of its own: as a wheel that somebody brought along, or that Debian's Python has.
find_pip() {
    for pip in "$here"/wheels/pip-*.whl /usr/share/python-wheels/pip-*.whl \
        "$($python -c 'import ensurepip, pathlib; print(pathlib.Path(ensurepip.__file__).parent)' 2>/dev/null)"/_bundled/pip-*.whl; do
        [ ! -e "$pip" ] || return 0
    done
    return 1
}

install_program() {
    # What it judges may be taken away here, or what is put in place here by it.
    [ ! -e "$root$folder/trial" ] || fail "midge-versions judges another version at this moment: try again in some minutes"
    at=$root$folder/versions/$version
    if [ ! -e "$at/.complete" ]; then
        $python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer"
        find_pip || need_packages python3-venv
        find_pip || [ -n "$dry" ] || fail "there is no pip: neither its wheel in $here/wheels nor what python3-venv has"
        act rm -rf "$at"
        act mkdir -p "$root$folder/versions"
        act $python -m venv --without-pip "$at"
        set --
        [ -z "$offline" ] || set -- --no-index --find-links "$here/wheels"
        act env PYTHONPATH="$pip" "$at/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            --root-user-action=ignore "$@" "$(ls "$here"/wheels/midge-*.whl)$extras"
        # After a power cut, a version without this mark is made again.
        act sync
        act touch "$at/.complete"
    fi
    if [ "$(readlink "$root$folder/current" || true)" != "versions/$version" ]; then
        previous=$(readlink "$root$folder/current" || true)
        act ln -sfn "versions/$version" "$root$folder/current.new"
        act mv -T "$root$folder/current.new" "$root$folder/current"
        forget_versions "$version" "${previous#versions/}"
    fi
    link=$root/usr/local/bin/$command
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        echo "  left alone: $link, which is no link of ours"
    elif ! is_ours "$link"; then
        act mkdir -p "$root/usr/local/bin"
        act ln -sfn "$folder/current/bin/$command" "$link"
    fi
}

is_ours() {
    [ "$(readlink "$1" || true)" = "$folder/current/bin/$command" ]
}

# forget_versions KEEP KEEP: one to go back to is enough.
forget_versions() {
    for old in "$root$folder"/versions/*; do
        case ${old##*/} in
        "$1" | "$2" | '*') ;;
        *) act rm -rf "$old" ;;
        esac
    done
}

install_files() {
    [ -d "$here/files" ] || return 0
    (cd "$here/files" && find . -type f | sed 's|^\./||') | sort >"$here/listed"
    while read -r file; do
        mode=644
        # Mosquitto reads its own itself: they are its group's, below.
        [ "$name" != broker ] || mode=640
        # As `midge init` and `midge enroll` name them; systemd hands them to the service.
        case ${file##*/} in
        *.key | password | token) [ "$name" = broker ] || mode=600 ;;
        esac
        case $file in
        signing.key) install_signing_key ;;
        signing.chain) ;;
        *) put "$here/files/$file" "$root$settings/$file" "$mode" ;;
        esac
    done <"$here/listed"
    [ "$name" != broker ] || own_broker_files
}

# The aggregator keeps it in its state, and may have got another one since. What vouches for it comes first: there is
# no second time for that.
install_signing_key() {
    [ ! -e "$state/signing.key" ] || return 0
    [ -d "$state/" ] || act mkdir -m 700 -p "$state"
    for file in signing.chain signing.key; do
        [ -e "$here/files/$file" ] || continue
        act install -m 600 "$here/files/$file" "$state/$file.new"
        [ -n "$root$dry" ] || act chown --reference="$state/" "$state/$file.new"
        act sync "$state/$file.new"
        act mv "$state/$file.new" "$state/$file"
    done
}

# Mosquitto reads them itself, and again when it is told to.
own_broker_files() {
    [ -z "$root" ] || return 0
    open=$(find "$settings" \( ! -group mosquitto -o -perm /o=rwx \) -print -quit 2>/dev/null) || true
    [ -n "$changed$open" ] || return 0
    act chgrp -R mosquitto "$settings"
    act chmod -R u=rwX,g=rX,o= "$settings"
}

install_unit() {
    put "$here/$unit" "$units/$unit" 644
    newest=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${newest:-0}" -lt 254 ] || put "$here/backoff.conf" "$units/$unit.d/backoff.conf" 644
    # What this machine alone needs, such as where a federation's home is.
    [ ! -e "$here/home.conf" ] || put "$here/home.conf" "$units/$unit.d/home.conf" 644
    [ -z "$changed" ] || systemd daemon-reload
    wanted=$units/multi-user.target.wants/$unit
    [ -L "$wanted" ] && return
    act mkdir -p "$units/multi-user.target.wants"
    act ln -sf "/etc/systemd/system/$unit" "$wanted"
}

start() {
    if [ -z "$dry" ] && [ ! -e "$root$needed" ]; then
        echo "$unit is in place, and starts when there is $needed: systemctl start $unit"
    elif [ "$name" = broker ] && [ -n "$changed" ] && [ -z "$restart" ]; then
        systemd reload-or-restart "$unit"
    elif [ -n "$changed" ]; then
        systemd restart --no-block "$unit"
    else
        [ -n "$root" ] || systemctl -q is-active "$unit" || systemd start --no-block "$unit"
    fi
}

install_all() {
    [ -n "$root" ] || [ ! -e "$unfinished" ] || changed=yes restart=yes
    # shellcheck disable=SC2086  words
    need_packages $packages
    if [ "$name" = broker ] && [ -z "$root" ] && systemctl -q is-enabled mosquitto.service 2>/dev/null; then
        [ -z "$(find /etc/mosquitto/conf.d -name '*.conf' 2>/dev/null)" ] ||
            fail "this machine has a Mosquitto of its own, with settings in /etc/mosquitto/conf.d: use that one" \
                "(midge acl), or turn it off first (systemctl disable --now mosquitto)"
        systemd disable --now mosquitto.service
    fi
    [ -z "$folder" ] || install_program
    install_files
    install_unit
    start
    [ -n "$changed" ] || echo "  nothing to do"
}

uninstall_all() {
    if [ -e "$units/$unit" ]; then
        systemd disable --now "$unit"
        act rm -rf "$units/$unit" "$units/$unit.d" "$units/multi-user.target.wants/$unit"
        systemd daemon-reload
    fi
    if [ -n "$folder" ]; then
        [ ! -e "$root$folder" ] || act rm -rf "$root$folder"
        ! is_ours "$root/usr/local/bin/$command" || act rm "$root/usr/local/bin/$command"
    fi
    [ "$name" != agent ] || uninstall_versions
    if [ -z "$purge" ]; then
        for kept in "$root$settings" "$state"; do
            [ ! -e "$kept" ] || echo "  kept: $kept (--purge removes it)"
        done
        return
    fi
    purge_settings
    for gone in "$state" "$root/var/lib/private/midge-$name"; do
        [ ! -e "$gone" ] && [ ! -L "$gone" ] || act rm -rf "$gone"
    done
}

# What judges versions, on a device that came from a card.
uninstall_versions() {
    for gone in "$units/midge-versions.service" "$units/multi-user.target.wants/midge-versions.service" \
        "$root/usr/local/sbin/midge-versions"; do
        [ ! -e "$gone" ] && [ ! -L "$gone" ] || act rm "$gone"
    done
}

# The agent's lie beside the folders of the other services.
purge_settings() {
    if [ "$name" = agent ]; then
        for file in agent.toml ca.crt device.crt device.key token password .bundle; do
            for gone in "$root$settings/$file" "$root$settings/$file.old" "$root$settings/$file.new"; do
                [ ! -e "$gone" ] || act rm "$gone"
            done
        done
    elif [ -e "$root$settings" ]; then
        act rm -rf "$root$settings"
    fi
}

[ -n "$root" ] || [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || fail "only root may do this; with --root DIR it is tried in a folder"
case $verb in
install) install_all ;;
uninstall) uninstall_all ;;
*) fail "first word: install or uninstall" ;;
esac
[ -n "$dry$root" ] || rm -f "$unfinished"
