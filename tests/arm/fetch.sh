#!/bin/sh
# fetch.sh FOLDER PYTHON: into FOLDER an emulator, an arm64 Python, and the wheels a device installs there.
# Needs apt-get and dpkg-deb, no root: packages are downloaded and unpacked, none is installed. What is there
# is not fetched again. DEBIAN_MIRROR names a mirror where the system's own packages are not Debian's.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=$2

. tests/debian.sh
version=3.13

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

if [ "$(uname -m)" != x86_64 ]; then
    echo "this check emulates aarch64 on x86_64, and this is $(uname -m): run 'make test' on a device instead" >&2
    exit 1
fi
unpack emulator amd64 qemu-user
# One of its fifty emulators is needed.
find "$folder/emulator/usr/bin" -mindepth 1 ! -name qemu-aarch64 -delete
unpack system arm64 python3-minimal libpython3-stdlib libstdc++6
wheels
