// Making a certificate that signs itself, for trying TLS without an authority.
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

/** For these host names and addresses, from a day ago for so many days; RSA with 2048 bits or ECDSA on P-256. */
bool make_self_signed(const std::vector<std::string>& names, uint32_t days, bool rsa, SelfSigned* made);

}  // namespace protorelay
