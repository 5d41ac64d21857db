#!/usr/bin/env bash
# Stop what start.sh started in DATA_DIR, and only that. The folder itself stays, for its log.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 1 ] || { echo "usage: $0 DATA_DIR" >&2; exit 2; }
[ -d "$1" ] || { note "no such folder: $1"; exit 0; }
data=$(cd "$1" && pwd)
if ! pid=$(server_pid "$data"); then
  note "not running"
  rm -f "$data/pid"
  exit 0
fi
kill "$pid"
for _ in $(seq 1 80); do
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.1
done
if kill -9 "$pid" 2>/dev/null; then note "pid $pid did not stop within 8 s and was killed"; fi
rm -f "$data/pid"
# Object bodies; the log is worth keeping, they are not.
rm -rf "$data/tmp" "$data/root"
note "stopped, pid $pid"
