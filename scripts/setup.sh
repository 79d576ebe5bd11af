# shellcheck shell=sh
# Sourced by ./demo and ./test: sees to it that Rust, a linker and a Vulkan driver are there.
#
# Rust is never installed from here. The rest is, on Debian and Ubuntu, where it is missing: gcc, and Mesa, which
# holds drivers for Intel and AMD cards and one that runs on the CPU. As root at once, else only after a yes.
# Exit codes are those of mindreel: 2 for what the caller has to set up, 4 for trouble with the driver.

need_rust() {
    command -v cargo >/dev/null 2>&1 || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    command -v cargo >/dev/null 2>&1 && return
    echo "cargo: not found; install Rust as https://rustup.rs says, then run this again" >&2
    exit 2
}

# Sets `missing` to the packages that a build and a first kernel want and this machine lacks.
find_missing() {
    missing=
    command -v cc >/dev/null 2>&1 || missing="gcc libc6-dev" # rustc links with it
    has_driver || missing="$missing mesa-vulkan-drivers"
    has_loader || missing="$missing libvulkan1"
    missing=${missing# }
}

has_driver() {
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || return 0
    for manifest in /usr/share/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json \
        /etc/vulkan/icd.d/*.json "${XDG_DATA_HOME:-$HOME/.local/share}"/vulkan/icd.d/*.json; do
        [ ! -e "$manifest" ] || return 0
    done
    return 1
}

has_loader() {
    # Without ldconfig there is no telling; a missing library will then be told by mindreel.
    libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null) || return 0
    case $libraries in
    *libvulkan.so.1*) return 0 ;;
    *) return 1 ;;
    esac
}

need_driver() {
    [ "$(uname -s)" = Linux ] || return 0 # macOS and Windows bring theirs
    # Mesa's layer that orders adapters prints a line per device without this folder; we order them ourselves.
    [ -n "${XDG_RUNTIME_DIR:-}" ] || export NODEVICE_SELECT=1
    find_missing
    [ -n "$missing" ] || return 0
    command="apt-get install -y --no-install-recommends $missing"
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing on this machine, by their Debian names: $missing" >&2
        echo "install what your system calls them, then run this again" >&2
        exit 4
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
        echo "Installing what is missing: $missing"
    elif [ -t 0 ] && command -v sudo >/dev/null 2>&1; then
        as_root=sudo
        echo "Missing on this machine: $missing"
        printf 'Run "sudo %s"? [y/N] ' "$command"
        read -r answer || answer=
        case $answer in
        [yY] | [yY][eE][sS]) ;;
        *)
            echo "nothing was installed; without it there is no adapter to run on" >&2
            exit 4
            ;;
        esac
    else
        echo "missing on this machine: $missing; as root, run" >&2
        echo "    apt-get update && $command" >&2
        exit 4
    fi
    # Package lists may be absent or old: then they are fetched, and once more.
    install_missing || { $as_root apt-get update && install_missing; } || {
        echo "apt-get: could not install $missing; see above" >&2
        exit 4
    }
}

install_missing() {
    # shellcheck disable=SC2086 # both are lists of words
    $as_root env DEBIAN_FRONTEND=noninteractive $command
}
