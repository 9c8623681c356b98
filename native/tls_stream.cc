#include "tls_stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace protorelay {
namespace {

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // node ignores SIGPIPE
#endif

/** Most bytes of records that wait for the kernel; beyond that the peer provokes output and does not read it. */
constexpr size_t kMaxLeft = 1048576;
/** How many bytes of records are gathered before they are written. */
constexpr size_t kGather = 81920;
/** Most bytes read from the socket in one call: empty messages must not keep OpenSSL busy for ever. */
constexpr size_t kMaxDrawn = 262144;
/** Longest subject reported: a certificate's own text must not crowd out other facts. */
constexpr size_t kMaxSubject = 256;
/** RFC 9266. */
constexpr char kBindingLabel[] = "EXPORTER-Channel-Binding";
constexpr size_t kBindingBytes = 32;

void append_hex(std::string* to, const uint8_t* from, size_t count) {
  static const char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < count; ++i) {
    to->push_back(kDigits[from[i] >> 4]);
    to->push_back(kDigits[from[i] & 15]);
  }
}

bool is_address(const std::string& name) {
  uint8_t bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 || inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

}  // namespace

// --------------------------------------------------------------------------------------------------------- BIO

BIO_METHOD* TlsStream::method() {
  static BIO_METHOD* made = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "protorelay");
    if (m == nullptr) abort();
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_ctrl(m, bio_control);
    return m;
  }();
  return made;
}

int TlsStream::bio_write(BIO* bio, const char* from, int count) {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  auto* bytes = reinterpret_cast<const uint8_t*>(from);
  auto length = static_cast<size_t>(count);
  if (self->gathered_ + length > TlsShared::kBytes) self->flush();
  if (self->gathered_ + length > TlsShared::kBytes) {
    self->keep(bytes, length);
  } else {
    memcpy(self->shared_->records + self->gathered_, bytes, length);
    self->gathered_ += length;
  }
  return count;
}

int TlsStream::bio_read(BIO* bio, char* to, int room) {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->drawn_ >= kMaxDrawn) {
    BIO_set_retry_read(bio);  // polling tells when there is more
    return -1;
  }
  for (;;) {
    ssize_t n = ::recv(self->fd_, to, static_cast<size_t>(room), 0);
    self->socket_full_ = n == room;
    if (n > 0) {
      self->drawn_ += static_cast<size_t>(n);
      return static_cast<int>(n);
    }
    if (n == 0) {
      BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
      return 0;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      BIO_set_retry_read(bio);
    } else {
      self->socket_error_ = errno;
    }
    return -1;
  }
}

long TlsStream::bio_control(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;  // output is written when the call that made it is done
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
      return 0;
  }
}

// -------------------------------------------------------------------------------------------------------- life

TlsStream* TlsStream::create(std::shared_ptr<TlsContext> context, TlsShared* shared, int fd, bool server,
                             uint32_t verify, const std::string& name, const std::string& key,
                             const std::string& dane) {
  ERR_clear_error();
  SSL* ssl = context->open();
  if (ssl == nullptr) return nullptr;
  BIO* bio = BIO_new(method());
  if (bio == nullptr) {
    SSL_free(ssl);
    return nullptr;
  }
  auto* self = new TlsStream();
  self->ssl_ = ssl;
  self->context_ = std::move(context);
  self->shared_ = shared;
  self->fd_ = fd;
  self->server_ = server;
  self->strict_ = verify == kVerifyTrust;
  BIO_set_data(bio, self);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, self);
  if (server) {
    int mode = verify == kVerifyNone ? SSL_VERIFY_NONE : SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE;
    if (verify >= kVerifyNeed) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_set_verify(ssl, mode, on_verify);
    // A session that was made without a certificate, or with one of other issuers, must not be resumed where that is
    // wanted.
    std::string whose = self->context_->trust_mark() + std::to_string(verify);
    SSL_set_session_id_context(ssl, reinterpret_cast<const uint8_t*>(whose.data()),
                               static_cast<unsigned int>(whose.size()));
    SSL_set_accept_state(ssl);
    return self;
  }
  SSL_set_verify(ssl, SSL_VERIFY_PEER, on_verify);
  if (!name.empty() && !self->use_name(name)) {
    delete self;
    return nullptr;
  }
  if (!key.empty() && self->context_->resumes()) {
    // Trust is part of the key: a session made without it must not be resumed where it is needed.
    self->key_ = std::to_string(self->context_->number()) + (self->strict_ ? " trusted " : " ") + key;
    if (SSL_SESSION* session = shared->sessions.get(self->key_)) {
      SSL_set_session(ssl, session);
      SSL_SESSION_free(session);
    }
  }
  if (verify == kVerifyDane && !self->use_dane(name, dane)) {
    delete self;
    return nullptr;
  }
  SSL_set_connect_state(ssl);
  return self;
}

/** Sets the name to send and verify; false when it could not be verified, so that nothing may be sent. */
bool TlsStream::use_name(const std::string& name) {
  X509_VERIFY_PARAM* rules = SSL_get0_param(ssl_);
  if (is_address(name)) return X509_VERIFY_PARAM_set1_ip_asc(rules, name.c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(rules, name.data(), name.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl_, name.c_str()) == 1;
}

TlsStream::~TlsStream() {
  SSL_free(ssl_);
  free(left_);
}

int TlsStream::on_session(SSL* ssl, SSL_SESSION* session) {
  auto* self = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  if (self == nullptr || self->key_.empty() || !TlsSessions::worth_keeping(ssl, session)) return 0;
  self->shared_->sessions.put(self->key_, session);
  return 1;
}

/** Notes the first fault of the peer's certificate. It ends the handshake only where trust is needed. */
int TlsStream::on_verify(int good, X509_STORE_CTX* store) {
  if (good == 1) return 1;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* self = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  int error = X509_STORE_CTX_get_error(store);
  // A missing or old revocation list is no fault of the certificate.
  bool list = error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_CRL_HAS_EXPIRED;
  if (!list && self->verify_error_ == 0) self->verify_error_ = error;
  if (!list && self->strict_) return 0;
  X509_STORE_CTX_set_error(store, self->verify_error_);
  return 1;
}

// -------------------------------------------------------------------------------------------------------- work

TlsStream::Step TlsStream::handshake(std::string* reason) {
  ERR_clear_error();
  drawn_ = 0;
  int result = SSL_do_handshake(ssl_);
  int cause = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, result);
  if (cause == SSL_ERROR_NONE) {
    established_ = true;
  } else if (cause != SSL_ERROR_WANT_READ && cause != SSL_ERROR_WANT_WRITE) {
    *reason = why_failed();
    // Whatever the fault was, a remembered session must not bring it again.
    if (!key_.empty()) shared_->sessions.drop(key_);
    ERR_clear_error();
    flush();
    finished_ = true;
    return Step::kFailed;
  }
  // A fault of a certificate on which nobody insists must not be taken for an error of the next call.
  ERR_clear_error();
  // A server of TLS 1.3 ends with a ticket, for which nobody waits: it is sent in one packet with what comes next.
  if (server_ && established_ && left_length_ == 0 && SSL_version(ssl_) >= TLS1_3_VERSION) defer();
  int error = flush();
  if (error != 0) {
    *reason = strerror(-error);
    finished_ = true;
    return Step::kFailed;
  }
  return established_ ? Step::kDone : Step::kMore;
}

std::string TlsStream::why_failed() {
  if (socket_error_ != 0) return strerror(socket_error_);
  if (verify_error_ != 0 && strict_) {
    ERR_clear_error();
    return X509_verify_cert_error_string(verify_error_);
  }
  return tls_error("the peer closed the connection");
}

/** The result of a call that failed: -errno, or 0 for the end of the stream. */
int TlsStream::failure(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
      return 0;
    default:
      break;
  }
  int error = socket_error_ != 0 ? socket_error_ : ERR_peek_error() != 0 ? EPROTO : 0;
  finished_ = true;
  broken_ = error;
  ERR_clear_error();
  return -error;
}

ssize_t TlsStream::discard(uint8_t* to, size_t room) {
  if (established_ && !finished_) return receive(to, room);
  ssize_t n = ::recv(fd_, to, room, 0);
  return n >= 0 ? n : errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
}

ssize_t TlsStream::receive(uint8_t* to, size_t room) {
  // Bytes of the socket outside TLS are not from the peer of the handshake.
  if (finished_ || !established_) return -broken_;
  drawn_ = 0;
  starved_ = false;
  size_t done = 0;
  while (done < room) {
    ERR_clear_error();
    size_t n = 0;
    int result = SSL_read_ex(ssl_, to + done, room - done, &n);
    if (result == 1) {
      done += n;
      // Polling tells when the socket has more; asking it would cost a system call per message.
      if (!socket_full_ && SSL_has_pending(ssl_) != 1) break;
      continue;
    }
    int error = failure(result);
    int written = flush();  // an alert, or the answer to a key update
    if (done > 0) {
      ended_ = error != -EAGAIN;  // the next call meets it again
      break;
    }
    if (error == -EAGAIN && written != 0) return written;
    return error;
  }
  if (gathered_ > 0) flush();
  return static_cast<ssize_t>(done);
}

/** Encrypts bytes into the gathered records. The number of bytes, or -errno. */
ssize_t TlsStream::encrypt(const uint8_t* from, size_t count) {
  size_t done = 0;
  while (done < count) {
    ERR_clear_error();
    size_t n = 0;
    int result = SSL_write_ex(ssl_, from + done, count - done, &n);
    starved_ = false;
    if (result != 1) {
      int error = failure(result);
      starved_ = error == -EAGAIN;
      return done > 0 && error == -EAGAIN ? static_cast<ssize_t>(done) : error == 0 ? -EPIPE : error;
    }
    done += n;
    if (gathered_ < kGather) continue;
    int error = flush();
    if (error != 0) return error;
    if (blocked()) break;
  }
  return static_cast<ssize_t>(done);
}

ssize_t TlsStream::send(const struct iovec* pieces, size_t count) {
  if (finished_ || !established_) return -EPIPE;
  drawn_ = 0;
  if (blocked()) {
    int error = flush();
    if (error != 0) return error;
    if (blocked()) return -EAGAIN;
  }
  size_t total = 0;
  size_t joined = 0;
  ssize_t refused = 0;
  // Small pieces are joined until a record is full; whole records of one piece need no copy.
  for (size_t i = 0; i < count && !blocked();) {
    auto* at = static_cast<const uint8_t*>(pieces[i].iov_base);
    size_t length = pieces[i].iov_len;
    ssize_t n;
    if (length >= sizeof shared_->joined || (count == 1 && length > 0)) {
      n = encrypt(at, length);
      if (n >= 0 && static_cast<size_t>(n) < length) {
        total += static_cast<size_t>(n);
        break;
      }
      ++i;
    } else {
      joined = 0;
      for (; i < count && joined + pieces[i].iov_len <= sizeof shared_->joined; ++i) {
        memcpy(shared_->joined + joined, pieces[i].iov_base, pieces[i].iov_len);
        joined += pieces[i].iov_len;
      }
      n = joined == 0 ? 0 : encrypt(shared_->joined, joined);
      if (n >= 0 && static_cast<size_t>(n) < joined) {
        total += static_cast<size_t>(n);
        break;
      }
    }
    if (n < 0) {
      refused = n;
      break;
    }
    total += static_cast<size_t>(n);
  }
  int error = flush();
  if (error != 0) return error;
  return refused == 0 || (refused == -EAGAIN && total > 0) ? static_cast<ssize_t>(total) : refused;
}

void TlsStream::finish() {
  if (finished_ || !established_) return;
  finished_ = true;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
  flush();
}

// ------------------------------------------------------------------------------------------------------ output

void TlsStream::keep(const uint8_t* from, size_t count) {
  size_t had = left_length_ - left_sent_;
  auto* grown = static_cast<uint8_t*>(malloc(had + count));
  if (grown == nullptr) abort();
  if (had > 0) memcpy(grown, left_ + left_sent_, had);
  memcpy(grown + had, from, count);
  free(left_);
  left_ = grown;
  left_length_ = had + count;
  left_sent_ = 0;
}

/** Keeps what was gathered, to be sent with the next output. */
void TlsStream::defer() {
  if (gathered_ == 0) return;
  keep(shared_->records, gathered_);
  gathered_ = 0;
  deferred_ = true;
}

/** Writes records that wait, then those gathered. 0, even if the kernel did not take all of them, or -errno. */
int TlsStream::flush() {
  if (deferred_ && gathered_ == 0 && !finished_) return socket_error_ == 0 ? 0 : -socket_error_;
  size_t gathered = gathered_;
  gathered_ = 0;
  if (deferred_) {
    deferred_ = false;
    if (gathered > 0) keep(shared_->records, gathered);
    gathered = 0;
  }
  if (socket_error_ != 0) return -socket_error_;
  while (left_length_ > 0) {
    ssize_t n = ::send(fd_, left_ + left_sent_, left_length_ - left_sent_, kSendFlags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      socket_error_ = errno;
      return -errno;
    }
    if (n < 0) break;
    left_sent_ += static_cast<size_t>(n);
    if (left_sent_ < left_length_) continue;
    free(left_);
    left_ = nullptr;
    left_length_ = left_sent_ = 0;
  }
  size_t sent = 0;
  while (left_length_ == 0 && sent < gathered) {
    ssize_t n = ::send(fd_, shared_->records + sent, gathered - sent, kSendFlags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      socket_error_ = errno;
      return -errno;
    }
    if (n < 0) break;
    sent += static_cast<size_t>(n);
  }
  if (sent < gathered) keep(shared_->records + sent, gathered - sent);
  return left_length_ > kMaxLeft ? -ENOBUFS : 0;
}

// ------------------------------------------------------------------------------------------------------- facts

/**
 * Appends '/' and tls-unique: the first Finished message, which is the client's unless the session is resumed (RFC
 * 5929 §3).
 */
void TlsStream::append_unique(std::string* text) const {
  uint8_t finished[EVP_MAX_MD_SIZE];
  bool peers = server_ != (SSL_session_reused(ssl_) == 1);
  size_t count = peers ? SSL_get_peer_finished(ssl_, finished, sizeof finished)
                       : SSL_get_finished(ssl_, finished, sizeof finished);
  if (count == 0 || count > sizeof finished) return;
  text->push_back('/');
  append_hex(text, finished, count);
}

std::string TlsStream::facts() const {
  std::string text = SSL_get_version(ssl_);
  text += ' ';
  text += SSL_get_cipher_name(ssl_);
  bool resumed = SSL_session_reused(ssl_) == 1;
  text += resumed ? " 1 " : " 0 ";
  text += std::to_string(SSL_get_verify_result(ssl_));
  text += ' ';
  X509* peer = SSL_get0_peer_certificate(ssl_);
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (peer != nullptr && X509_digest(peer, EVP_sha256(), digest, &length) == 1) {
    append_hex(&text, digest, length);
  } else {
    text += '-';
  }
  text += ' ';
  // Before TLS 1.3 an exporter binds the channel only with an extended master secret.
  bool binds = SSL_version(ssl_) >= TLS1_3_VERSION || SSL_get_extms_support(ssl_) == 1;
  uint8_t binding[kBindingBytes];
  if (binds &&
      SSL_export_keying_material(ssl_, binding, sizeof binding, kBindingLabel, sizeof kBindingLabel - 1,
                                 reinterpret_cast<const uint8_t*>(""), 0,
                                 1) == 1) {
    append_hex(&text, binding, sizeof binding);
    if (SSL_version(ssl_) < TLS1_3_VERSION) append_unique(&text);
  } else {
    text += '-';
  }
  text += ' ';
  char subject[kMaxSubject] = "-";
  if (peer != nullptr) {
    BIO* bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253);
    int n = BIO_read(bio, subject, sizeof subject - 1);
    subject[n > 0 ? n : 0] = '\0';
    BIO_free(bio);
  }
  text += subject;
  ERR_clear_error();
  return text;
}

}  // namespace protorelay
