#!/usr/bin/env bash
# S3, KMS and STS for tests on this machine: LocalStack's community core from PyPI, without Docker, on loopback only.
#
#   localstack/start.sh PORT DATA_DIR     returns when the services answer and the scripts of init/ready.d are through
#   localstack/stop.sh DATA_DIR
#
# A second start on the same DATA_DIR is a no-op. Everything stored is gone after a stop. Installed packages are kept in
# ${CIPHERGATE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ciphergate}. Other settings, all optional: CIPHERGATE_PYTHON (the
# interpreter to use), LS_LOG (warn, info, debug), CIPHERGATE_LOCALSTACK_TLS (a PEM file with key, certificate and CA).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 2 ] || { echo "usage: $0 PORT DATA_DIR" >&2; exit 2; }
port=$1
[[ $port =~ ^[1-9][0-9]{0,4}$ ]] && [ "$port" -le 65535 ] || die "PORT must be a number from 1 to 65535, not '$port'"
mkdir -p "$2"
data=$(cd "$2" && pwd)

if pid=$(server_pid "$data"); then
  [ "$(cat "$data/port")" = "$port" ] || die "already running in $data on port $(cat "$data/port"), pid $pid: stop it first"
  note "already running on 127.0.0.1:$port, pid $pid"
  exit 0
fi
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then die "port $port is taken by another program"; fi

# 2026.3.0 is the last core that needs no account. Its KMS is written for Python 3.12 and later; 4.13.1 behaves alike on 3.11.
# 3.14 comes last because the locked set was not tried on it.
if python=$(find_python 3.13 3.12); then version=2026.3.0
elif python=$(find_python 3.11); then version=4.13.1
elif python=$(find_python 3.14); then version=2026.3.0
else
  die "no usable Python. Needed: Python 3.12 or 3.13 (3.11 also works) with its venv module, on PATH, under pyenv or named by
  CIPHERGATE_PYTHON. On Debian and Ubuntu: apt-get install python3 python3-venv"
fi
venv=$(locked_venv "localstack-$version" "$python" "$here/requirements-$version.txt")

# LocalStack looks for its folders below FILESYSTEM_ROOT. The service catalogue (5 s to build) outlives the data folder.
root=$data/root
kept=$cache/localstack-$version-state
mkdir -p "$root/var/lib/localstack" "$root/etc/localstack" "$data/tmp" "$kept"
ln -sfn "$kept" "$root/var/lib/localstack/cache"
ln -sfn "$here/init" "$root/etc/localstack/init"

unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY AWS_PROFILE AWS_SESSION_TOKEN || true
export OVERRIDE_IN_DOCKER=0 # inside any container it would otherwise take /var/lib/localstack for its own and bind all interfaces
export FILESYSTEM_ROOT=$root CONFIG_DIR=$data/conf
export GATEWAY_LISTEN=127.0.0.1:$port LOCALSTACK_HOST=localhost:$port
export SERVICES=s3,kms,sts STRICT_SERVICE_LOADING=1 EAGER_SERVICE_LOADING=1
export DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 DNS_ADDRESS=0 # three ways it would look for the internet
export S3_SKIP_SIGNATURE_VALIDATION=0                          # at least presigned URLs are checked
export LS_LOG=${LS_LOG:-warn} PYTHONWARNINGS=ignore
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 # for the init scripts
export AWS_ENDPOINT_URL=http://127.0.0.1:$port
if [ -n "${CIPHERGATE_LOCALSTACK_TLS:-}" ]; then export CUSTOM_SSL_CERT_PATH=$CIPHERGATE_LOCALSTACK_TLS; fi

rm -f "$data/listening"
"$venv/bin/python" "$here/launcher.py" "$data" >"$data/log" 2>&1 </dev/null &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -f "$data/pid"' EXIT
echo "$pid" >"$data/pid"
echo "$port" >"$data/port"
if ! "$venv/bin/python" "$here/wait.py" "$data" "$port" "$pid" 120; then
  tail -n 40 "$data/log" >&2
  die "LocalStack $version did not come up; the whole log is $data/log"
fi
trap - EXIT
note "LocalStack $version answers on 127.0.0.1:$port, pid $pid"
