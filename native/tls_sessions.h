// What a client resumes: sessions of one reactor, by host.
#pragma once
#include <openssl/ssl.h>

#include <string>
#include <unordered_map>

namespace protorelay {

/** Sessions that a client can resume, by a key of its caller's; bounded, one session a key. */
class TlsSessions {
 public:
  TlsSessions() = default;
  ~TlsSessions();
  TlsSessions(const TlsSessions&) = delete;
  TlsSessions& operator=(const TlsSessions&) = delete;
  /** false: the ticket, or the certificates that came along, are larger than any host needs. */
  static bool worth_keeping(const SSL* ssl, const SSL_SESSION* session);
  /** Takes the session over. */
  void put(const std::string& key, SSL_SESSION* session);
  /** The caller's to free; taken out when it is to be used once (RFC 8446, appendix C.4). nullptr: none. */
  SSL_SESSION* take(const std::string& key);

 private:
  std::unordered_map<std::string, SSL_SESSION*> sessions_;
};

}  // namespace protorelay
