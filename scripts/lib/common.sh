# What scripts/run and scripts/test share: everything that is missing is set up here, nothing is asked, nothing that is
# there is touched. To be sourced by bash.
set -euo pipefail

fastkv_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fastkv_cache=${XDG_CACHE_HOME:-$HOME/.cache}/fastkv
fastkv_model=$fastkv_cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
fastkv_haystack=$fastkv_cache/haystack

# Debian's names of what the build, the tests and the fetching need.
fastkv_packages=(ca-certificates g++ cmake ninja-build python3 python3-pip libdnnl-dev libhwy-dev libcairo2-dev
                 libicu-dev libmicrohttpd-dev libgnutls28-dev libxxhash-dev nlohmann-json3-dev libcli11-dev libgtest-dev
                 libgmock-dev libbenchmark-dev)

say() { printf '==> %s\n' "$*" >&2; }
give_up() { printf 'error: %s\n' "$*" >&2; exit 1; }

# As root: directly, or through sudo. On a terminal sudo itself may want the password; elsewhere it must not.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif ! command -v sudo >/dev/null; then return 1
    elif [ -t 0 ]; then sudo "$@"
    else sudo -n "$@"
    fi
}

apt_install() {
    local environment=(env DEBIAN_FRONTEND=noninteractive)
    local install=("${environment[@]}" apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3
                   -o Dpkg::Use-Pty=0 "$@")
    # The lists of a fresh system are empty, those of an old one name files that are gone: fetch them and try again.
    if compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null &&
        as_root "${install[@]}" </dev/null >/dev/null; then
        return
    fi
    say "Fetching the package lists (apt-get update)"
    as_root "${environment[@]}" apt-get update -qq -o Acquire::Retries=3 </dev/null >&2 &&
        as_root "${install[@]}" </dev/null >/dev/null
}

# install_packages NAME...: those of Debian's packages that are missing.
install_packages() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        check_tools
        return
    fi
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "Installing ${missing[*]} (apt-get)"
    apt_install "${missing[@]}" && return
    say "That did not work. As root: apt-get update && apt-get install ${missing[*]}"
    check_tools
}

# Where apt cannot help: whatever is there may do, and the configure step names the library that is missing.
check_tools() {
    local tool missing=()
    for tool in cmake ninja python3; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    command -v c++ >/dev/null || command -v "${CXX:-no-compiler}" >/dev/null || missing+=("a C++20 compiler")
    say "This system is not set up by apt. Wanted: a C++20 compiler, CMake 3.25, Ninja, Python 3 with pip, Highway," \
        "nlohmann-json, CLI11, ICU, libmicrohttpd, GnuTLS, xxHash, GoogleTest; oneDNN, cairo and Google Benchmark are optional"
    [ ${#missing[@]} = 0 ] || give_up "missing here: ${missing[*]}"
}

# A Python that has pip: the one on the PATH need not be the one that apt gave pip to.
find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import pip' 2>/dev/null; then
            fastkv_python=$(command -v "$candidate")
            return
        fi
    done
    give_up "no Python 3 with pip is here"
}

# configure PRESET: quiet but for what takes long (ggml, once per machine) and for errors.
configure() {
    say "Configuring build/$1"
    (cd "$fastkv_root" && cmake --preset "$1" --log-level=NOTICE "-DPython3_EXECUTABLE=$fastkv_python") >&2
}

# build PRESET [TARGET...]
build() {
    local preset=$1
    shift
    say "Building build/$preset"
    (cd "$fastkv_root" && cmake --build --preset "$preset" ${1:+--target "$@"}) >&2
}

fetch_model() {
    [ -s "$fastkv_model" ] && return
    say "Fetching the model SmolLM2-135M-Instruct (93 MB) into $fastkv_cache/models"
    "$fastkv_python" "$fastkv_root/scripts/lib/fetch_data.py" model "$fastkv_model"
}

# Python packages that tests ask the server with, in a folder of their own.
fetch_clients() {
    local list=$fastkv_root/scripts/lib/clients.txt
    fastkv_clients=$fastkv_cache/clients/$(cksum < "$list" | cut -d ' ' -f 1)
    [ -d "$fastkv_clients" ] && return
    say "Fetching the clients of scripts/lib/clients.txt into $fastkv_clients"
    rm -rf "$fastkv_clients.part"
    "$fastkv_python" -m pip install --quiet --disable-pip-version-check --target "$fastkv_clients.part" -r "$list" >&2
    mv "$fastkv_clients.part" "$fastkv_clients"
}

# For the test of the server's page: a browser that is there, or Chromium's smallest package.
install_browser() {
    local program
    for program in chromium chromium-headless-shell chromium-browser google-chrome; do
        command -v "$program" >/dev/null && return
    done
    install_packages chromium-headless-shell
}

fetch_haystack() {
    [ -d "$fastkv_haystack" ] && return
    say "Fetching the essays into $fastkv_haystack"
    "$fastkv_python" "$fastkv_root/scripts/lib/fetch_data.py" haystack "$fastkv_haystack"
}
