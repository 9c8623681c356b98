// Sessions of one reactor that it can resume as a client, by host.
#pragma once
#include <openssl/ssl.h>

#include <string>
#include <unordered_map>

namespace protorelay {

/** Sessions by a key that the caller chooses; bounded, one session per key. */
class TlsSessions {
 public:
  TlsSessions() = default;
  ~TlsSessions();
  TlsSessions(const TlsSessions&) = delete;
  TlsSessions& operator=(const TlsSessions&) = delete;
  /** Whether to keep a session: not if its ticket, or the certificates with it, are larger than any host needs. */
  static bool worth_keeping(const SSL* ssl, const SSL_SESSION* session);
  /** Takes the session over. */
  void put(const std::string& key, SSL_SESSION* session);
  /**
   * The session for a key, which the caller frees; nullptr: none. It stays here until a newer one replaces it, so
   * that connections that begin together all resume. (RFC 8446, appendix C.4 advises against using a ticket twice,
   * because it shows that two connections are from the same client; a relay's address shows that as well.)
   */
  SSL_SESSION* get(const std::string& key);
  void drop(const std::string& key);

 private:
  std::unordered_map<std::string, SSL_SESSION*> sessions_;
};

}  // namespace protorelay
