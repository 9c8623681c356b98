#include "tls_context.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <mutex>

#include "tls_stream.h"

namespace protorelay {
namespace {

/** The name of a ticket key has this many bytes for the context, and then the period. */
constexpr size_t kTicketMarkBytes = 8;
/** Groups for a resumed session whose key exchange is elliptic only. Those after the first are for clients that lack it. */
constexpr char kLightGroups[] = "X25519:P-256:P-384:P-521:?X448:?X25519MLKEM768:?SecP256r1MLKEM768";

std::mutex& lock() {
  static auto* mutex = new std::mutex();
  return *mutex;
}
std::vector<std::shared_ptr<TlsContext>>& slots() {
  static auto* list = new std::vector<std::shared_ptr<TlsContext>>();
  return *list;
}

/** Lets OpenSSL read a text, which must outlive this. */
struct TextBio {
  BIO* bio;
  explicit TextBio(const std::string& text) : bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))) {}
  ~TextBio() { BIO_free(bio); }
};

int no_password(char*, int, int, void*) { return -1; }

bool add_trust(X509_STORE* store, const std::string& ca, const std::string& crl) {
  TextBio certificates(ca);
  size_t count = 0;
  while (X509* one = PEM_read_bio_X509_AUX(certificates.bio, nullptr, no_password, nullptr)) {
    bool added = X509_STORE_add_cert(store, one) == 1;
    X509_free(one);
    if (!added) return false;
    ++count;
  }
  if (!ca.empty() && count == 0) return false;
  TextBio lists(crl);
  count = 0;
  while (X509_CRL* one = PEM_read_bio_X509_CRL(lists.bio, nullptr, no_password, nullptr)) {
    bool added = X509_STORE_add_crl(store, one) == 1;
    X509_CRL_free(one);
    if (!added) return false;
    ++count;
  }
  if (!crl.empty() && count == 0) return false;
  if (count > 0) X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  ERR_clear_error();  // OpenSSL reports the end of the text as an error of PEM
  return true;
}

bool use_certificate(SSL_CTX* ctx, const TlsCertificate& certificate) {
  TextBio chain(certificate.chain);
  X509* leaf = PEM_read_bio_X509_AUX(chain.bio, nullptr, no_password, nullptr);
  if (leaf == nullptr) return false;
  bool good = SSL_CTX_use_certificate(ctx, leaf) == 1;
  X509_free(leaf);
  if (!good || SSL_CTX_clear_chain_certs(ctx) != 1) return false;
  while (X509* one = PEM_read_bio_X509(chain.bio, nullptr, no_password, nullptr)) {
    if (SSL_CTX_add0_chain_cert(ctx, one) == 1) continue;
    X509_free(one);
    return false;
  }
  ERR_clear_error();
  TextBio text(certificate.key);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(text.bio, nullptr, no_password, nullptr);
  if (key == nullptr) return false;
  good = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
  EVP_PKEY_free(key);
  return good;
}

}  // namespace

std::string tls_error(const char* fallback) {
  unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  std::string text = reason == nullptr ? fallback : reason;
  ERR_clear_error();
  return text;
}

std::shared_ptr<TlsContext> TlsContext::create(const TlsSetup& setup, std::string* error) {
  static std::atomic<uint64_t> count{0};
  ERR_clear_error();
  std::shared_ptr<TlsContext> context(new TlsContext());
  context->number_ = ++count;
  context->server_ = setup.server;
  context->session_seconds_ = setup.session_seconds;
  context->resumption_ = setup.resumption;
  context->ticket_secret_ = setup.ticket_secret;
  uint8_t mark[EVP_MAX_MD_SIZE];
  HMAC(EVP_sha256(), setup.ticket_secret.data(), static_cast<int>(setup.ticket_secret.size()),
       reinterpret_cast<const uint8_t*>("name"), 4, mark, nullptr);
  memcpy(context->ticket_mark_, mark, kTicketMarkBytes);
  std::string trust = setup.ca + setup.crl;
  uint8_t digest[EVP_MAX_MD_SIZE];
  EVP_Digest(trust.data(), trust.size(), digest, nullptr, EVP_sha256(), nullptr);
  context->trust_mark_.assign(reinterpret_cast<const char*>(digest), 12);
  if (context->build(setup)) return context;
  *error = tls_error("the certificate, key or rules cannot be used");
  return nullptr;
}

TlsContext::~TlsContext() {
  OPENSSL_cleanse(ticket_keys_, sizeof ticket_keys_);
  for (SSL_CTX* ctx : contexts_) SSL_CTX_free(ctx);
}

bool TlsContext::build(const TlsSetup& setup) {
  if (setup.groups.empty()) {
    std::vector<uint32_t> all;
    for (uint32_t i = 0; i < setup.certificates.size(); ++i) all.push_back(i);
    return make(setup, all) != nullptr;
  }
  for (const TlsGroup& group : setup.groups) {
    SSL_CTX* ctx = make(setup, group.certificates);
    if (ctx == nullptr) return false;
    for (const std::string& name : group.names) by_name_[name] = ctx;
  }
  return true;
}

SSL_CTX* TlsContext::make(const TlsSetup& setup, const std::vector<uint32_t>& certificates) {
  SSL_CTX* ctx = SSL_CTX_new(setup.server ? TLS_server_method() : TLS_client_method());
  if (ctx == nullptr) return nullptr;
  contexts_.push_back(ctx);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // One system call reads several records; the buffer exists only while there is something in it.
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_default_read_buffer_len(ctx, 65536);
  if (SSL_CTX_set_min_proto_version(ctx, setup.min_version == "TLSv1.3" ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
      (!setup.ciphers.empty() && SSL_CTX_set_cipher_list(ctx, setup.ciphers.c_str()) != 1) ||
      (!setup.ciphersuites.empty() && SSL_CTX_set_ciphersuites(ctx, setup.ciphersuites.c_str()) != 1)) {
    return nullptr;
  }
  for (uint32_t index : certificates) {
    if (index >= setup.certificates.size() || !use_certificate(ctx, setup.certificates[index])) return nullptr;
  }
  if (!add_trust(SSL_CTX_get_cert_store(ctx), setup.ca_later ? "" : setup.ca, setup.crl)) return nullptr;
  if (setup.ca_later) {
    late_ca_ = setup.ca;
    SSL_CTX_set_cert_verify_callback(ctx, on_chain, this);
  }
  X509_VERIFY_PARAM_set_purpose(SSL_CTX_get0_param(ctx),
                                setup.server ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER);
  set_resumption(ctx);
  if (!setup.server) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, TlsStream::on_session);
    return SSL_CTX_dane_enable(ctx) == 1 ? ctx : nullptr;
  }
  SSL_CTX_set_dh_auto(ctx, 1);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
  SSL_CTX_set_tlsext_servername_arg(ctx, this);
  if (setup.session_seconds == 0) {
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
  } else {
    SSL_CTX_set_timeout(ctx, static_cast<long>(setup.session_seconds));
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_app_data(ctx, this);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
  }
  if (setup.names_ca) {
    TextBio text(setup.ca);
    while (X509* one = PEM_read_bio_X509_AUX(text.bio, nullptr, no_password, nullptr)) {
      SSL_CTX_add_client_CA(ctx, one);
      X509_free(one);
    }
    ERR_clear_error();
  }
  return ctx;
}

int TlsContext::on_chain(X509_STORE_CTX* chain, void* arg) {
  auto* context = static_cast<TlsContext*>(arg);
  // What cannot be read is not trusted.
  std::call_once(context->late_ca_read_,
                 [&] { add_trust(X509_STORE_CTX_get0_store(chain), std::move(context->late_ca_), ""); });
  return X509_verify_cert(chain);
}

// -------------------------------------------------------------------------------------------------- server name

const SSL_CTX* TlsContext::find(const std::string& name) const {
  auto exact = by_name_.find(name);
  if (exact != by_name_.end()) return exact->second;
  size_t dot = name.find('.');
  if (dot == std::string::npos) return nullptr;
  auto wild = by_name_.find("*" + name.substr(dot));
  return wild == by_name_.end() ? nullptr : wild->second;
}

/** Chooses the certificate. A name that we do not have gets the first one: the client decides whether to accept it. */
int TlsContext::on_server_name(SSL* ssl, int*, void* arg) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  const SSL_CTX* ctx = static_cast<TlsContext*>(arg)->find(lower);
  if (ctx == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_set_SSL_CTX(ssl, const_cast<SSL_CTX*>(ctx));
  return SSL_TLSEXT_ERR_OK;
}

// ----------------------------------------------------------------------------------------------------- tickets

void TlsContext::set_resumption(SSL_CTX* ctx) {
  if (resumption_ == TlsResumption::kNone) {
    SSL_CTX_set_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
#ifdef SSL_OP_PREFER_NO_DHE_KEX
    if (server_) SSL_CTX_set_options(ctx, SSL_OP_PREFER_NO_DHE_KEX);
#endif
  } else if (server_ && resumption_ == TlsResumption::kLight) {
    SSL_CTX_set_session_ticket_cb(ctx, nullptr, on_resumption, nullptr);
  }
}

/** Called with a ticket before the key exchange is chosen: a good ticket limits the choice. */
SSL_TICKET_RETURN TlsContext::on_resumption(SSL* ssl, SSL_SESSION*, const unsigned char*, size_t,
                                            SSL_TICKET_STATUS status, void*) {
  switch (status) {
    case SSL_TICKET_SUCCESS:
    case SSL_TICKET_SUCCESS_RENEW:
      SSL_set1_groups_list(ssl, kLightGroups);
      return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
    default:  // no ticket, or not a good one: as OpenSSL does by itself
      return SSL_TICKET_RETURN_IGNORE_RENEW;
  }
}

/**
 * Derives the keys from the secret and the period, so that every thread and process knows them and nothing is stored.
 */
TlsContext::TicketKeys TlsContext::ticket_keys(uint64_t period) {
  std::lock_guard<std::mutex> guard(ticket_lock_);
  TicketKeys& keys = ticket_keys_[period % 2];
  if (keys.made && keys.period == period) return keys;
  for (uint8_t use = 0; use < 2; ++use) {
    uint8_t input[9];
    for (int i = 0; i < 8; ++i) input[i] = static_cast<uint8_t>(period >> (8 * i));
    input[8] = use;
    unsigned int length = 0;
    HMAC(EVP_sha256(), ticket_secret_.data(), static_cast<int>(ticket_secret_.size()), input, sizeof input,
         use == 0 ? keys.sign : keys.encrypt, &length);
  }
  keys.period = period;
  keys.made = true;
  return keys;
}

/** OpenSSL's callback for tickets. A ticket of the previous period is accepted and replaced. */
int TlsContext::on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                          int encrypt) {
  auto* self = static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  uint64_t now = static_cast<uint64_t>(time(nullptr)) / self->session_seconds_;
  uint64_t period = now;
  if (encrypt == 1) {
    memcpy(name, self->ticket_mark_, kTicketMarkBytes);
    memcpy(name + kTicketMarkBytes, &period, sizeof period);
    if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1) return -1;
  } else {
    memcpy(&period, name + kTicketMarkBytes, sizeof period);
    if (memcmp(name, self->ticket_mark_, kTicketMarkBytes) != 0 || (period != now && period + 1 != now)) return 0;
  }
  TicketKeys keys = self->ticket_keys(period);
  char digest[] = "SHA256";
  OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, keys.sign, sizeof keys.sign),
                         OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                         OSSL_PARAM_construct_end()};
  bool good = EVP_MAC_CTX_set_params(mac, params) == 1 &&
              EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, keys.encrypt, iv, encrypt) == 1;
  OPENSSL_cleanse(&keys, sizeof keys);
  if (!good) return -1;
  if (encrypt == 1) return 1;
  // 2 asks for a new ticket, because clients of TLS 1.3 use each once (RFC 8446, appendix C.4). Where sessions are
  // resumed without a key exchange, the clients are relays like this one. They use a ticket again, which reveals no
  // more than their address does.
  bool kept = SSL_version(ssl) < TLS1_3_VERSION || self->resumption_ == TlsResumption::kNone;
  return period == now && kept ? 1 : 2;
}

// ------------------------------------------------------------------------------------------------------- slots

int tls_slot_open() {
  std::lock_guard<std::mutex> guard(lock());
  slots().emplace_back();
  return static_cast<int>(slots().size()) - 1;
}

void tls_slot_set(int slot, std::shared_ptr<TlsContext> context) {
  std::lock_guard<std::mutex> guard(lock());
  if (slot >= 0 && static_cast<size_t>(slot) < slots().size()) slots()[static_cast<size_t>(slot)].swap(context);
}

std::shared_ptr<TlsContext> tls_slot_get(int slot) {
  std::lock_guard<std::mutex> guard(lock());
  if (slot < 0 || static_cast<size_t>(slot) >= slots().size()) return nullptr;
  return slots()[static_cast<size_t>(slot)];
}

}  // namespace protorelay
