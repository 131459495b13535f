# shellcheck shell=sh disable=SC2016,SC2034,SC2154,SC2115
# To be sourced, with $folder set: Debian packages downloaded and unpacked in $folder, none installed, without root.
# What is there is not fetched again. DEBIAN_MIRROR names a mirror where the system's own packages are not Debian's.

# QEMU 10 and Python 3.13: Debian 12's QEMU 7.2 crashes LiteRT's wheel.
suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$'
}

# unpack TREE MACHINE PACKAGE...: the packages of $suite and all they depend on, in FOLDER/TREE. A shell's variables
# are global: neither name may be one that who sources this uses.
unpack() {
    tree=$1 machine=$2
    shift 2
    [ -e "$folder/$tree/.complete" ] && return
    echo "fetching $* ($machine)" >&2
    rm -rf "$folder/$tree" "$folder/apt"
    for part in etc/apt/apt.conf.d etc/apt/preferences.d var/lib/apt/lists/partial var/lib/dpkg var/log \
        var/cache/apt/archives/partial; do
        mkdir -p "$folder/apt/$part"
    done
    : >"$folder/apt/var/lib/dpkg/status"
    echo "deb [signed-by=$keyring] $DEBIAN_MIRROR $suite main" >"$folder/apt/etc/apt/sources.list"
    for step in update "install --download-only --yes $*"; do
        # shellcheck disable=SC2086
        apt-get -qq -o Dir="$folder/apt" -o Dir::State::status="$folder/apt/var/lib/dpkg/status" \
            -o APT::Architecture="$machine" -o APT::Architectures="$machine" \
            -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1 \
            -o Acquire::Languages=none $step </dev/null >/dev/null
    done
    # The packages rely on it: on Debian everything is below /usr.
    mkdir -p "$folder/$tree/usr/lib"
    ln -s usr/lib "$folder/$tree/lib"
    for package in "$folder"/apt/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$folder/$tree"
    done
    rm -rf "$folder/apt"
    touch "$folder/$tree/.complete"
}

for tool in apt-get dpkg-deb; do
    if ! command -v $tool >/dev/null 2>&1; then
        echo "this check unpacks Debian's packages, and there is no $tool: run it on Debian, or in a container of it" >&2
        exit 1
    fi
done
DEBIAN_MIRROR=${DEBIAN_MIRROR:-$(mirror)} || {
    echo "none of the system's package sources is Debian's: name a mirror as DEBIAN_MIRROR=http://.../debian" >&2
    exit 1
}
