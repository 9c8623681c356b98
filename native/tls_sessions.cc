#include "tls_sessions.h"

namespace protorelay {
namespace {

/** Most sessions that one reactor remembers. */
constexpr size_t kMaxSessions = 4096;
/** Most bytes of a session's ticket, and of the certificates kept with it; sessions with more are not resumed. */
constexpr size_t kMaxSessionBytes = 16384;

}  // namespace

bool TlsSessions::worth_keeping(const SSL* ssl, const SSL_SESSION* session) {
  const uint8_t* ticket = nullptr;
  size_t bytes = 0;
  SSL_SESSION_get0_ticket(session, &ticket, &bytes);
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    int length = i2d_X509(sk_X509_value(chain, i), nullptr);
    if (length > 0) bytes += static_cast<size_t>(length);
  }
  return bytes <= kMaxSessionBytes;
}

TlsSessions::~TlsSessions() {
  for (auto& entry : sessions_) SSL_SESSION_free(entry.second);
}

void TlsSessions::put(const std::string& key, SSL_SESSION* session) {
  drop(key);
  // Drop any one: a table this full has hosts that are seldom met, and the loss is one full handshake.
  if (sessions_.size() >= kMaxSessions) drop(std::string(sessions_.begin()->first));
  sessions_.emplace(key, session);
}

SSL_SESSION* TlsSessions::get(const std::string& key) {
  auto at = sessions_.find(key);
  if (at == sessions_.end()) return nullptr;
  SSL_SESSION* session = at->second;
  if (SSL_SESSION_is_resumable(session) != 1) {
    drop(key);
    return nullptr;
  }
  // OpenSSL marks a session of TLS 1.3 as used up, so it gets a copy.
  if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION) return SSL_SESSION_dup(session);
  SSL_SESSION_up_ref(session);
  return session;
}

void TlsSessions::drop(const std::string& key) {
  auto at = sessions_.find(key);
  if (at == sessions_.end()) return;
  SSL_SESSION_free(at->second);
  sessions_.erase(at);
}

}  // namespace protorelay
