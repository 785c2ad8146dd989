#!/usr/bin/env bash
# Runs the tests of the kernels and the engine as 64-bit ARM: a Debian Python and wheels for ARM in build/aarch64, the native module
# cross-compiled, all of it run by qemu. Needs no root. Arguments are passed to pytest in place of the usual tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/.venv/bin:$PATH

here=$PWD/build/aarch64
export LEANTO_SYSROOT=$here/sysroot
packages=$LEANTO_SYSROOT/usr/lib/python3/dist-packages
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

need() {  # path or command, Debian package
    command -v "$1" >/dev/null || [ -e "$1" ] || { echo "test-neon: $1 is missing: apt-get install $2" >&2; exit 1; }
}

# A package list of its own, of another architecture; the system's stays as it is.
debian() {
    APT_CONFIG=$here/apt/apt.conf apt-get -qq "$@"
}

make_sysroot() {
    local apt=$here/apt
    mkdir -p "$apt"/{lists,archives}/partial "$LEANTO_SYSROOT"
    touch "$apt/status"
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
CONF
    debian update
    debian --yes --no-install-recommends --download-only install python3.11-minimal libpython3.11-stdlib libstdc++6
    (cd "$apt/archives" && debian download libpython3.11-dev)  # its headers, not what else it depends on
    for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$LEANTO_SYSROOT"; done
    cat >"$LEANTO_SYSROOT/python" <<'PYTHON'
#!/bin/sh
sysroot=$(dirname "$0")
PYTHONHOME=$sysroot/usr exec qemu-aarch64-static -L "$sysroot" -0 "$0" "$sysroot/usr/bin/python3.11" "$@"
PYTHON
    chmod +x "$LEANTO_SYSROOT/python"
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt --target "$packages" \
        --python-version 3.11 --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --only-binary=:all: \
        hypothesis nanobind nanobind-backend numpy pytest pytest-timeout safetensors tokenizers
    touch "$here/ready"
}

build() {
    cmake -S kernels -B "$here/native" -G Ninja --toolchain "$PWD/kernels/aarch64/toolchain.cmake" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$packages" --log-level=WARNING
    ninja -C "$here/native" --quiet install >/dev/null
    cp kernels/leanto_kernels/*.py* "$packages/leanto_kernels/"
}

# CI=true: hypothesis draws the same examples every time.
emulate() {  # processor, pytest's arguments
    local cpu=$1
    shift
    CI=true QEMU_CPU=$cpu PYTHONPATH=edge_runtime "$LEANTO_SYSROOT/python" -m pytest -p no:cacheprovider -q --timeout 600 "$@"
}

need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static
need apt-get apt
need $keyring debian-archive-keyring
[ -e "$here/ready" ] || make_sysroot
build
if [ $# -gt 0 ]; then
    emulate max "$@"
    exit
fi
# All three sets on a processor that has everything; beside it one without the dot product, on which an instruction too many is fatal.
emulate cortex-a53 tests/kernels >"$here/cortex-a53.log" 2>&1 &
plain=$!
emulate max tests/kernels tests/edge_runtime/test_engine.py && failed=0 || failed=1
wait $plain || failed=1
echo "on a processor without the dot product:"
cat "$here/cortex-a53.log"
exit $failed
