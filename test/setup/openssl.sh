# Prints the compiler's options for OpenSSL's library, which the fuzz target for TLS is linked with: the system's, or
# Debian's libssl-dev unpacked into .toolchain/debian. Without either, says so and fails. Bourne shell: `sh openssl.sh`.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/.toolchain/debian
compiler=${CXX:-c++}

# Whether OpenSSL 3 or newer is found with these options.
found() {
  echo '#include <openssl/ssl.h>
  int main() { return OPENSSL_VERSION_MAJOR >= 3 && SSL_CTX_new(TLS_method()) != nullptr ? 0 : 1; }' |
    "$compiler" -x c++ - -x none "$@" -o /dev/null 2>/dev/null
}

unpacked() {
  local machine
  machine=$("$compiler" -print-multiarch 2>/dev/null || "$compiler" -dumpmachine)
  echo "-I$folder/usr/include -I$folder/usr/include/$machine -L$folder/usr/lib/$machine -l:libssl.a -l:libcrypto.a -lpthread -ldl"
}

fetch() {
  command -v apt-get >/dev/null 2>&1 || return 1
  mkdir -p "$folder/libssl/partial"
  if [ -z "$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ]; then
    [ "$(id -u)" = 0 ] && apt-get update -qq >>"$folder/apt.log" 2>&1
  fi
  apt-get install --reinstall --yes --download-only --no-install-recommends -o Debug::NoLocking=1 \
    -o "Dir::Cache::archives=$folder/libssl" libssl-dev >>"$folder/apt.log" 2>&1 || return 1
  for file in "$folder"/libssl/libssl-dev*.deb; do dpkg -x "$file" "$folder" || return 1; done
  rm -rf "$folder/libssl"
}

if found -lssl -lcrypto; then
  echo '-lssl -lcrypto'
  exit
fi
# shellcheck disable=SC2046
found $(unpacked) || fetch
# shellcheck disable=SC2046
if found $(unpacked); then
  unpacked
  exit
fi
echo 'OpenSSL 3 headers and library are missing (Debian package libssl-dev)' >&2
exit 1
