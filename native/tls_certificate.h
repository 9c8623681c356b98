// Makes a self-signed certificate, for trying TLS without an authority.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace protorelay {

struct SelfSigned {
  /** PEM. */
  std::string certificate;
  std::string key;
};

/**
 * Makes one for these host names and addresses, valid for `days` from a day ago; RSA with 2048 bits or ECDSA on P-256.
 */
bool make_self_signed(const std::vector<std::string>& names, uint32_t days, bool rsa, SelfSigned* made);

}  // namespace protorelay
