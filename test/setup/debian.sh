# Sourced by `build.sh test` from the project's folder: brings the mail programs that system tests use, unpacked into
# .toolchain/debian and put on PATH; nothing is installed on the system and no service starts. When it may not or
# cannot, it says which programs are missing: the tests that need one say so and are skipped.
PATH=$PATH:/usr/sbin:/sbin
programs='smtp-source:postfix smtp-sink:postfix swaks:swaks curl:curl python3:python3 openssl:openssl msmtp:msmtp
  mariadbd:mariadb-server-core redis-server:redis-server haproxy:haproxy unbound:unbound ldns-keygen:ldnsutils
  ldns-signzone:ldnsutils saslpasswd2:sasl2-bin gsasl:gsasl opendkim:opendkim dkimverify:python3-dkim
  promtool:prometheus'
folder=$root/.toolchain/debian

lacking() {
  local entry
  for entry in $programs; do command -v "${entry%%:*}" >/dev/null 2>&1 || printf '%s ' "$entry"; done
}

# A program that was unpacked and not installed needs to be told where its libraries and modules lie.
wrap() {
  local name=$1 program=$2
  cat >"$folder/bin/$name" <<WRAP
#!/bin/sh
LD_LIBRARY_PATH=$folder/usr/lib/postfix:$folder/usr/lib/$(uname -m)-linux-gnu:$folder/lib/$(uname -m)-linux-gnu:$folder/usr/lib
PYTHONPATH=$folder/usr/lib/python3/dist-packages
PERL5LIB=$folder/usr/share/perl5:$(echo "$folder"/usr/lib/*/perl5/5.*)
SASL_PATH=$folder/usr/lib/$(uname -m)-linux-gnu/sasl2:/usr/lib/$(uname -m)-linux-gnu/sasl2
export LD_LIBRARY_PATH PYTHONPATH PERL5LIB SASL_PATH
exec $program "\$@"
WRAP
  chmod +x "$folder/bin/$name"
}

fetch() {
  local packages=$1 lists archives=$folder/archives file name program
  mkdir -p "$archives/partial" "$folder/bin"
  if [ -z "$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ]; then
    [ "$(id -u)" = 0 ] && apt-get update -qq >"$folder/apt.log" 2>&1
  fi
  # shellcheck disable=SC2086
  apt-get install --yes --download-only --no-install-recommends -o Debug::NoLocking=1 \
    -o "Dir::Cache::archives=$archives" $packages >>"$folder/apt.log" 2>&1 || return 1
  for file in "$archives"/*.deb; do [ ! -f "$file" ] || dpkg -x "$file" "$folder" || return 1; done
  rm -rf "$archives"
  for name in smtp-source smtp-sink swaks curl python3 openssl msmtp mariadbd redis-server haproxy unbound \
    ldns-keygen ldns-signzone saslpasswd2 gsasl opendkim dkimverify promtool; do
    for program in "$folder/usr/sbin/$name" "$folder/usr/bin/$name"; do
      [ ! -x "$program" ] || wrap "$name" "$program"
    done
  done
}

PATH=$folder/bin:$PATH
missing=$(lacking)
if [ -n "$missing" ] && command -v apt-get >/dev/null 2>&1; then
  packages=$(for entry in $missing; do echo "${entry##*:}"; done | sort -u | tr '\n' ' ')
  # swaks speaks TLS by a module that it only recommends.
  case $packages in *swaks*) packages="${packages}libnet-ssleay-perl " ;; esac
  # Mechanisms of Cyrus SASL, for Postfix.
  case $packages in *sasl2-bin*) packages="${packages}libsasl2-modules libsasl2-modules-db " ;; esac
  # dkimpy verifies Ed25519 by a module that it only recommends.
  case $packages in *python3-dkim*) packages="${packages}python3-nacl " ;; esac
  say "tests: unpacking ${packages}into .toolchain/debian"
  fetch "$packages" || say "tests: apt-get could not bring them (.toolchain/debian/apt.log)"
  missing=$(lacking)
fi
for entry in $missing; do
  say "tests: ${entry%%:*} is missing (Debian package ${entry##*:}): the tests that use it are skipped"
done
export PATH
