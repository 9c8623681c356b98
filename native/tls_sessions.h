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
  /**
   * The caller's to free; nullptr: none. It stays for the next until a newer one replaces it: connections that begin
   * together all resume. (RFC 8446, appendix C.4 advises against using a ticket twice, lest two connections be known
   * for the same client's; a relay's address says as much.)
   */
  SSL_SESSION* get(const std::string& key);
  void drop(const std::string& key);

 private:
  std::unordered_map<std::string, SSL_SESSION*> sessions_;
};

}  // namespace protorelay
