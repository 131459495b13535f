#!/bin/sh
# fetch.sh FOLDER PYTHON: into FOLDER an emulator, an arm64 Python, and the wheels a device installs there.
# Needs apt-get and dpkg-deb, no root: packages are downloaded and unpacked, none is installed. What is there
# is not fetched again. DEBIAN_MIRROR names a mirror where the system's own packages are not Debian's.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=$2

# QEMU 10 and Python 3.13: Debian 12's QEMU 7.2 crashes LiteRT's wheel.
suite=trixie
version=3.13
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$'
}

# unpack NAME ARCHITECTURE PACKAGE...: the packages and all they depend on, in FOLDER/NAME.
unpack() {
    name=$1 architecture=$2
    shift 2
    [ -e "$folder/$name/.complete" ] && return
    echo "fetching $* ($architecture)" >&2
    rm -rf "$folder/$name" "$folder/apt"
    for part in etc/apt/apt.conf.d etc/apt/preferences.d var/lib/apt/lists/partial var/lib/dpkg var/log \
        var/cache/apt/archives/partial; do
        mkdir -p "$folder/apt/$part"
    done
    : >"$folder/apt/var/lib/dpkg/status"
    echo "deb [signed-by=$keyring] $DEBIAN_MIRROR $suite main" >"$folder/apt/etc/apt/sources.list"
    for step in update "install --download-only --yes $*"; do
        # shellcheck disable=SC2086  words
        apt-get -qq -o Dir="$folder/apt" -o Dir::State::status="$folder/apt/var/lib/dpkg/status" \
            -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
            -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1 \
            -o Acquire::Languages=none $step </dev/null >/dev/null
    done
    # The packages rely on it: on Debian everything is below /usr.
    mkdir -p "$folder/$name/usr/lib"
    ln -s usr/lib "$folder/$name/lib"
    for package in "$folder"/apt/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$folder/$name"
    done
    rm -rf "$folder/apt"
    touch "$folder/$name/.complete"
}

wheels() {
    "$python" -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        >"$folder/wanted.txt"
    cmp -s "$folder/wanted.txt" "$folder/requirements.txt" && return
    echo "fetching wheels for aarch64" >&2
    rm -rf "$folder/wheels"
    abi=cp$(echo $version | tr -d .)
    "$python" -m pip install --quiet --no-input --no-compile --only-binary=:all: --target "$folder/wheels" \
        --implementation cp --python-version $version --abi "$abi" --abi abi3 --abi none \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$folder/wanted.txt"
    mv "$folder/wanted.txt" "$folder/requirements.txt"
}

for tool in apt-get dpkg-deb; do
    if ! command -v $tool >/dev/null 2>&1; then
        echo "this check unpacks Debian's packages, and there is no $tool: run it on Debian, or in a container of it" >&2
        exit 1
    fi
done
if [ "$(uname -m)" != x86_64 ]; then
    echo "this check emulates aarch64 on x86_64, and this is $(uname -m): run 'make test' on a device instead" >&2
    exit 1
fi
DEBIAN_MIRROR=${DEBIAN_MIRROR:-$(mirror)} || {
    echo "none of the system's package sources is Debian's: name a mirror as DEBIAN_MIRROR=http://.../debian" >&2
    exit 1
}
unpack emulator amd64 qemu-user
# One of its fifty emulators is needed.
find "$folder/emulator/usr/bin" -mindepth 1 ! -name qemu-aarch64 -delete
unpack system arm64 python3-minimal libpython3-stdlib libstdc++6
wheels
