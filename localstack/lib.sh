# Shared by start.sh, stop.sh and tests/run; sourced, not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CIPHERGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ciphergate}

note() { echo "[$(basename "$0")] $*" >&2; }
die() { note "$*"; exit 1; }

# server_pid DATA_DIR: print the process id of the server of this folder; fails when there is none. A stale pid file may name
# somebody else's process by now, so the command line has to name the launcher and the folder.
server_pid() {
  local pid args
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  if [ -r "/proc/$pid/cmdline" ]; then args=$(tr '\0' ' ' <"/proc/$pid/cmdline"); else args=$(ps -p "$pid" -o args= 2>/dev/null) || return 1; fi
  [[ "$args " == *"launcher.py $1 "* ]] && echo "$pid"
}

# find_python VERSION...: print the first interpreter of one of these versions that can make virtual environments. It is started
# for the check: a pyenv shim for a version that is not selected exists, but does not run.
find_python() {
  local version candidate
  for version in "$@"; do
    for candidate in ${CIPHERGATE_PYTHON:-} "python$version" python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/python3; do
      if "$candidate" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != tuple(map(int, '$version'.split('.'))))" \
        >/dev/null 2>&1; then
        echo "$candidate"
        return 0
      fi
    done
  done
  return 1
}

# locked_venv NAME PYTHON LOCK_FILE: print the path of a virtual environment that holds exactly the packages of the lock file.
# A mark is set when everything is in, so that an interrupted installation is never taken for a finished one.
locked_venv() {
  local venv stamp
  stamp=$({ "$2" -c 'import sys; print(sys.version)' && cat "$3"; } | sha256sum | cut -c1-12)
  venv=$cache/$1-$stamp
  if [ ! -e "$venv/complete" ]; then
    mkdir -p "$cache"
    (
      if command -v flock >/dev/null; then flock 9; fi # two starts at once: the second waits and finds the work done
      if [ -e "$venv/complete" ]; then exit 0; fi
      note "installing $1 into $cache (once)"
      rm -rf "$venv"
      "$2" -m venv "$venv" || exit 1
      "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-deps -r "$3" >&2 || exit 1
      touch "$venv/complete"
    ) 9>"$cache/.lock" || return 1
  fi
  echo "$venv"
}
