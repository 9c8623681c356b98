#include "dkim_key.h"

#include <openssl/pem.h>

#include <mutex>
#include <unordered_map>

namespace protorelay {
namespace {

struct Slots {
  std::mutex lock;
  std::unordered_map<uint32_t, std::shared_ptr<const DkimKey>> keys;
  uint32_t next = 1;
};

// Never destroyed: threads may still sign while the process exits.
Slots& slots() {
  static auto* all = new Slots();
  return *all;
}

/** There is nobody to ask for a passphrase. */
int no_passphrase(char*, int, int, void*) { return 0; }

}  // namespace

std::shared_ptr<const DkimKey> dkim_key_parse(const std::string& pem, const std::string& domain,
                                              const std::string& selector) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  if (bio == nullptr) return nullptr;
  auto made = std::make_shared<DkimKey>();
  made->key = PEM_read_bio_PrivateKey(bio, nullptr, no_passphrase, nullptr);
  BIO_free(bio);
  if (made->key == nullptr) return nullptr;
  made->rsa = EVP_PKEY_is_a(made->key, "RSA") == 1;
  if (!made->rsa && EVP_PKEY_is_a(made->key, "ED25519") != 1) return nullptr;
  made->domain = domain;
  made->selector = selector;
  return made;
}

uint32_t dkim_key_open(std::shared_ptr<const DkimKey> key) {
  Slots& all = slots();
  std::lock_guard<std::mutex> guard(all.lock);
  uint32_t slot = all.next++;
  all.keys.emplace(slot, std::move(key));
  return slot;
}

void dkim_key_close(uint32_t slot) {
  Slots& all = slots();
  std::lock_guard<std::mutex> guard(all.lock);
  all.keys.erase(slot);
}

std::shared_ptr<const DkimKey> dkim_key_at(uint32_t slot) {
  Slots& all = slots();
  std::lock_guard<std::mutex> guard(all.lock);
  auto found = all.keys.find(slot);
  return found == all.keys.end() ? nullptr : found->second;
}

}  // namespace protorelay
