// Keys that sign (RSA, Ed25519), each parsed once and kept in a slot of the process.
//
// A slot is named by its number, which is never used twice. Threads that sign with a key hold it, so that closing its
// slot takes it from nobody. Knows nothing of files, DNS or which message a key is for.
#pragma once
#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>

namespace protorelay {

struct DkimKey {
  EVP_PKEY* key = nullptr;
  bool rsa = false;
  /** As the signature names them: A-labels. */
  std::string domain;
  std::string selector;

  DkimKey() = default;
  DkimKey(const DkimKey&) = delete;
  DkimKey& operator=(const DkimKey&) = delete;
  ~DkimKey() { EVP_PKEY_free(key); }
};

/** Parses a key in PEM, without a passphrase; nullptr when it is no RSA or Ed25519 key. */
std::shared_ptr<const DkimKey> dkim_key_parse(const std::string& pem, const std::string& domain,
                                              const std::string& selector);

/** Puts a key into a new slot, and returns its number. Safe from any thread, like all of these. */
uint32_t dkim_key_open(std::shared_ptr<const DkimKey> key);
void dkim_key_close(uint32_t slot);
/** nullptr when the slot is closed. */
std::shared_ptr<const DkimKey> dkim_key_at(uint32_t slot);

}  // namespace protorelay
