// DANE (RFC 7671, RFC 7672) of a client's handshake: OpenSSL judges the certificate by the TLSA records it is given.
#include <openssl/err.h>

#include <cstdlib>
#include <vector>

#include "tls_stream.h"

namespace protorelay {
namespace {

/** The text from `at` up to the mark, or to the end; `at` is moved behind it. */
std::string part(const std::string& text, size_t* at, char mark) {
  size_t end = text.find(mark, *at);
  if (end == std::string::npos) end = text.size();
  std::string found = text.substr(*at, end - *at);
  *at = end < text.size() ? end + 1 : end;
  return found;
}

int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/** Decodes hex; false when it is no hex of whole octets. */
bool octets(const std::string& hex, std::vector<uint8_t>* to) {
  if (hex.empty() || hex.size() % 2 != 0) return false;
  for (size_t i = 0; i < hex.size(); i += 2) {
    int high = nibble(hex[i]);
    int low = nibble(hex[i + 1]);
    if (high < 0 || low < 0) return false;
    to->push_back(static_cast<uint8_t>(high << 4 | low));
  }
  return true;
}

}  // namespace

/** Sets DANE up; false when there is no memory or no name: then nothing may be sent at all. */
bool TlsStream::use_dane(const std::string& name, const std::string& dane) {
  if (name.empty() || SSL_dane_enable(ssl_, name.c_str()) <= 0) return false;
  // RFC 7672 §3.1.1: with usage 3 the record vouches for the key itself, whatever name and dates the certificate has.
  SSL_dane_set_flags(ssl_, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
  size_t at = 0;
  std::string names = part(dane, &at, ' ');
  for (size_t i = 0; i < names.size();) {
    std::string other = part(names, &i, ',');
    if (!other.empty() && SSL_add1_host(ssl_, other.c_str()) != 1) return false;
  }
  while (at < dane.size()) {
    std::string record = part(dane, &at, ',');
    size_t i = 0;
    auto usage = static_cast<uint8_t>(atoi(part(record, &i, '.').c_str()));
    auto selector = static_cast<uint8_t>(atoi(part(record, &i, '.').c_str()));
    auto matching = static_cast<uint8_t>(atoi(part(record, &i, '.').c_str()));
    std::vector<uint8_t> bytes;
    if (!octets(record.substr(i), &bytes)) continue;
    // 0 and below: the record cannot be used. The others still count.
    if (SSL_dane_tlsa_add(ssl_, usage, selector, matching, bytes.data(), bytes.size()) > 0) strict_ = true;
  }
  ERR_clear_error();
  return true;
}

}  // namespace protorelay
