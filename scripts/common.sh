# What the scripts share. To be sourced by a bash that has set -euo pipefail.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sync-es
# What scripts/servers says of a machine that lacks what the wanted servers need.
EXIT_SKIPPED=77
# shellcheck disable=SC2034 # Used by the scripts that source this one.
readonly root cache EXIT_SKIPPED

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# fail_with_log MESSAGE FILE...: the ends of the logs first, then what went wrong.
fail_with_log() {
  local message=$1 log
  shift
  for log in "$@"; do tail -n 20 "$log" >&2 || true; done
  fail "$message"
}

# within SECONDS COMMAND...: repeats the command until it succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

process_has_ended() { ! kill -0 "$1" 2>/dev/null; }

# need_command COMMAND PACKAGE
need_command() {
  command -v "$1" >/dev/null || install_packages "$2" ||
    fail "$1 is missing: install it (package $2)"
}

# On Debian and its kin, as root or where sudo asks for no password; fails elsewhere.
install_packages() {
  local sudo=()
  command -v apt-get >/dev/null || return 1
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || return 1
    sudo=(sudo -n)
  fi
  is_packaged "$@" || "${sudo[@]}" apt-get update -qq >&2 || return 1
  is_packaged "$@" || return 1
  say "installing $*"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >&2
}

is_packaged() { apt-cache show "$@" >/dev/null 2>&1; }

# Below the range from which the system takes ports for outgoing connections.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}
