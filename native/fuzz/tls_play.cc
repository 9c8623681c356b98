#include "tls_play.h"

#include <vector>

#include "../proxy_header.h"

extern "C" ssize_t fuzz_recv(int, void* to, size_t room, int) { return fuzz_recv_bytes(to, room); }

extern "C" ssize_t fuzz_send(int, const void* from, size_t count, int) {
  fuzz::Socket* s = fuzz::current();
  fuzz::require(s != nullptr, "a socket is written outside of a call");
  if (s->send_error != 0 || s->window == 0) {
    errno = s->send_error != 0 ? s->send_error : EAGAIN;
    return -1;
  }
  size_t n = std::min(count, s->window);
  if (s->window != SIZE_MAX) s->window -= n;
  s->from_us.append(static_cast<const char*>(from), n);
  return static_cast<ssize_t>(n);
}

namespace fuzz {

TlsStream* Play::open_ours() {
  Contexts* all = contexts();
  static const char* const names[] = {"localhost", "127.0.0.1", "", "other.example"};
  std::string name = names[setup_.name];
  if (setup_.server) {
    uint32_t verify = std::min<uint32_t>(setup_.trust, protorelay::kVerifyTrust);
    return TlsStream::create(all->server, shared_, 0, true, verify, "", "", "");
  }
  auto context = setup_.trust == 1 ? all->distrusting : all->trusting;
  if (setup_.trust < 3) {
    uint32_t verify = setup_.trust == 0 ? protorelay::kVerifyAsk : protorelay::kVerifyTrust;
    return TlsStream::create(context, shared_, 0, false, verify, name, "key", "");
  }
  // The first record is of another key; the second is no valid record.
  std::string dane = setup_.trust == 3 ? "other.test " + all->tlsa : " 3.1.1." + std::string(64, '0') + ",3.1.x.1";
  return TlsStream::create(all->trusting, shared_, 0, false, protorelay::kVerifyDane, "localhost", "", dane);
}

void Play::open_peer(SSL_SESSION* session) {
  peer_ = SSL_new(setup_.server ? contexts()->peer_client : contexts()->peer_server);
  SSL_set_bio(peer_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(peer_), -1);
  if (setup_.tls12) SSL_set_max_proto_version(peer_, TLS1_2_VERSION);
  if (setup_.small_records) SSL_set_max_send_fragment(peer_, 512);
  if (setup_.server) {
    static const char* const names[] = {"localhost", "MX.example.test", "", "nobody.test"};
    if (*names[setup_.name] != '\0') SSL_set_tlsext_host_name(peer_, names[setup_.name]);
    if (!setup_.certificate) SSL_certs_clear(peer_);
    if (session != nullptr) SSL_set_session(peer_, session);
    SSL_set_connect_state(peer_);
  } else {
    SSL_set_num_tickets(peer_, setup_.tickets);
    // A ticket that holds a certificate does not fit into one small record.
    if (setup_.certificate) SSL_set_verify(peer_, SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
    SSL_set_accept_state(peer_);
  }
}

// ------------------------------------------------------------------------------------------------------ our end

void Play::step_ours() {
  if (state_ == State::kProxy) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(socket_.arrived.data());
    int extent = protorelay::proxy_extent(bytes, std::min(socket_.arrived.size(), protorelay::kMaxProxyHeader));
    require(extent >= 0 || !clean_, "a PROXY header is none");
    if (extent < 0) state_ = State::kFailed;
    if (extent <= 0) return;
    socket_.arrived.erase(0, static_cast<size_t>(extent));
    state_ = State::kShaking;
  }
  if (ours_ == nullptr) return;
  if (state_ == State::kShaking) shake();
  if (state_ == State::kOpen) receive();
  if (state_ == State::kOpen && we_owe_ > 0) we_write(0, 1);
}

void Play::shake() {
  std::string reason;
  begin_call();
  TlsStream::Step step = ours_->handshake(&reason);
  end_call();
  if (step == TlsStream::Step::kMore) return;
  state_ = step == TlsStream::Step::kDone ? State::kOpen : State::kFailed;
  if (state_ == State::kFailed) {
    require(!reason.empty(), "a handshake fails without a reason");
    return;
  }
  begin_call();
  std::string facts = ours_->facts();
  end_call();
  std::vector<std::string> parts;
  for (size_t at = 0; parts.size() < 6;) {
    size_t end = facts.find(' ', at);
    require(end != std::string::npos, "a fact is missing");
    parts.push_back(facts.substr(at, end - at));
    at = end + 1;
  }
  resumed_ = parts[2] == "1";
  for (char c : facts) require(c >= ' ' && c <= '~', "a fact holds more than text");
  require(parts[4] == "-" || parts[4].size() == 64, "that is no fingerprint");
}

void Play::receive() {
  bool read_all = false;
  for (int i = 0; i < 64 && state_ == State::kOpen; ++i) {
    std::vector<uint8_t> bytes(room_);
    begin_call();
    ssize_t n = ours_->receive(bytes.data(), bytes.size());
    end_call();
    if (n == -EAGAIN) return;
    for (ssize_t k = 0; k < n; ++k) {
      require(bytes[static_cast<size_t>(k)] == byte_at(we_got_++, false), "not what the peer wrote");
    }
    require(we_got_ <= peer_sent_, "more arrives than was sent");
    if (n > 0) {
      // Polling tells of the end of the socket itself.
      bool over = socket_.ended || socket_.receive_error != 0;
      read_all = static_cast<size_t>(n) < room_ && socket_.arrived.empty() && !over;
      continue;
    }
    // Polling tells of what happens to the socket itself.
    bool socket_over = socket_.ended || socket_.receive_error != 0 || socket_.send_error != 0;
    require(ours_->ended() || !read_all || socket_over, "an end that was read with data is not told of");
    state_ = n == 0 ? State::kEnded : State::kFailed;
    // After the end nothing else may arrive.
    socket_.arrived += "MAIL FROM:<injected@example.test>\r\n";
    begin_call();
    ssize_t after = ours_->receive(bytes.data(), bytes.size());
    end_call();
    require(after <= 0, "something follows the end");
    require(n == 0 || after == n, "the error is told otherwise the second time");
  }
}

void Play::we_write(size_t count, size_t pieces) {
  we_owe_ = std::min<size_t>(we_owe_ + count, 1 << 18);
  if (state_ != State::kOpen || we_owe_ == 0) return;
  std::vector<uint8_t> bytes(we_owe_);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(we_sent_ + i, true);
  std::vector<struct iovec> list;
  size_t each = bytes.size() / pieces + 1;
  for (size_t at = 0; at < bytes.size(); at += each) {
    list.push_back({bytes.data() + at, std::min(each, bytes.size() - at)});
  }
  begin_call();
  ssize_t n = ours_->send(list.data(), list.size());
  end_call();
  require(n <= static_cast<ssize_t>(bytes.size()), "more was taken than given");
  require(n >= 0 || n == -EAGAIN || !clean_, "sending fails for no reason");
  if (n >= 0) {
    we_sent_ += static_cast<size_t>(n);
    we_owe_ -= static_cast<size_t>(n);
    bool waits = ours_->blocked() || ours_->starved();
    require(we_owe_ == 0 || waits || !clean_, "less was taken, and nothing is in the way");
  } else if (n != -EAGAIN) {
    we_owe_ = 0;
  }
}

// ----------------------------------------------------------------------------------------------------- the peer

void Play::step_peer() {
  std::string& from = socket_.from_us;
  if (!from.empty()) BIO_write(SSL_get_rbio(peer_), from.data(), static_cast<int>(from.size()));
  from.clear();
  ERR_clear_error();
  int result = 1;
  if (!peer_open_ && !peer_dead_) {
    result = SSL_do_handshake(peer_);
    peer_open_ = result == 1;
  }
  uint8_t bytes[4096];
  while (peer_open_ && !peer_dead_ && result > 0) {
    result = SSL_read(peer_, bytes, sizeof bytes);
    for (int i = 0; i < result; ++i) {
      require(bytes[i] == byte_at(peer_got_++, true), "the peer reads what we did not write");
    }
    require(peer_got_ <= we_sent_, "the peer reads more than we wrote");
  }
  if (result <= 0) {
    int error = SSL_get_error(peer_, result);
    peer_heard_end_ = peer_heard_end_ || error == SSL_ERROR_ZERO_RETURN;
    bool waits = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
    peer_dead_ = peer_dead_ || (!waits && error != SSL_ERROR_ZERO_RETURN);
  }
  ERR_clear_error();
  char* at = nullptr;
  long waiting = BIO_get_mem_data(SSL_get_wbio(peer_), &at);
  if (waiting > 0 && socket_.to_us.size() < kMostPending) socket_.to_us.append(at, static_cast<size_t>(waiting));
  (void)BIO_reset(SSL_get_wbio(peer_));
}

void Play::peer_write(size_t count) {
  if (!peer_open_ || peer_dead_ || (SSL_get_shutdown(peer_) & SSL_SENT_SHUTDOWN) != 0) return;
  if (count == 0 || socket_.to_us.size() > kMostPending / 2) return;
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = byte_at(peer_sent_ + i, false);
  ERR_clear_error();
  int n = SSL_write(peer_, bytes.data(), static_cast<int>(count));
  if (n > 0) peer_sent_ += static_cast<size_t>(n);
  step_peer();
}

// ------------------------------------------------------------------------------------------------- the schedule

bool Play::act(Action action, Input* in) {
  std::string& wire = socket_.to_us;
  switch (action) {
    case kDeliver: {
      size_t n = std::min<size_t>(in->next(), wire.size());
      socket_.arrived.append(wire, 0, n);
      wire.erase(0, n);
      step_ours();
      break;
    }
    case kPump:
      pump();
      break;
    case kPeerWrites:
      peer_write(in->wide());
      break;
    case kWeWrite:
      we_write(in->wide() * 2, 1 + in->next() % 16);
      break;
    case kWindow: {
      uint8_t size = in->next();
      socket_.window = size == 255 ? SIZE_MAX : size * size_t{97};
      break;
    }
    case kKeyUpdate:
      if (!peer_open_ || peer_dead_ || SSL_version(peer_) < TLS1_3_VERSION) break;
      if ((SSL_get_shutdown(peer_) & SSL_SENT_SHUTDOWN) != 0) break;
      for (int n = in->next() % 8; n >= 0; --n) {
        SSL_key_update(peer_, n % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(peer_);
      }
      step_peer();
      break;
    case kSmallRoom:
      room_ = 1 + in->wide();
      break;
    case kFlush:
      if (state_ != State::kOpen) break;
      begin_call();
      ours_->flush();
      end_call();
      break;
    case kFlip: {
      size_t at = in->wide();
      if (wire.empty()) break;
      wire[at % wire.size()] = static_cast<char>(wire[at % wire.size()] ^ (1 << in->next() % 8));
      tampered();
      break;
    }
    case kCut: {
      size_t at = in->wide();
      if (wire.empty()) break;
      wire.erase(at % wire.size(), 1 + in->next());
      tampered();
      break;
    }
    case kInsert: {
      size_t at = in->wide();
      std::string bytes;
      for (int n = in->next() % 16; n >= 0; --n) bytes += static_cast<char>(in->next());
      wire.insert(at % (wire.size() + 1), bytes);
      tampered();
      break;
    }
    case kAlert: {
      uint8_t level = in->next();
      const char record[] = {0x15, 3, 3, 0, 2, static_cast<char>(1 + level % 2), static_cast<char>(in->next())};
      wire.insert(level < 128 ? 0 : wire.size(), record, sizeof record);
      tampered();
      break;
    }
    case kRepeat: {
      size_t n = std::min<size_t>(in->wide(), wire.size());
      if (n == 0) break;
      wire += wire.substr(0, n);
      tampered();
      break;
    }
    case kEnd:
      socket_.ended = true;
      tampered();
      break;
    case kReceiveError:
      socket_.receive_error = ECONNRESET;
      tampered();
      break;
    case kSendError:
      socket_.send_error = EPIPE;
      tampered();
      break;
    case kRenegotiate:
      if (!peer_open_ || peer_dead_ || SSL_version(peer_) >= TLS1_3_VERSION) break;
      SSL_renegotiate(peer_);
      SSL_do_handshake(peer_);
      step_peer();
      tampered();
      break;
    case kPeerShutdown:
      if (!peer_open_ || peer_dead_) break;
      SSL_shutdown(peer_);
      step_peer();
      tampered();
      break;
    case kWeFinish:
      if (state_ != State::kOpen) break;
      begin_call();
      ours_->finish();
      end_call();
      state_ = State::kEnded;
      tampered();
      break;
    case kFlood: {
      // Meaningless messages, more of them than may be read at once.
      static const std::string kinds[] = {std::string("\x16\x03\x03\x40\x00", 5) + std::string(0x4000, '\0'),
                                          std::string("\x14\x03\x03\x00\x01\x01", 6),
                                          std::string("\x17\x03\x03\x00\x00", 5),
                                          std::string("\x15\x03\x03\x00\x02\x01\x5a", 7)};
      const std::string& kind = kinds[in->next() % 4];
      while (socket_.arrived.size() < 2 * kMostDrawn) socket_.arrived += kind;
      tampered();
      step_ours();
      break;
    }
    case kChangeOurs: {
      // The peer's answer is an alert of its own, encrypted where there are keys.
      size_t at = in->wide();
      if (socket_.from_us.empty()) break;
      char& byte = socket_.from_us[at % socket_.from_us.size()];
      byte = static_cast<char>(byte ^ (1 << in->next() % 8));
      tampered();
      step_peer();
      break;
    }
    default:
      tampered();
      return false;
  }
  return true;
}

void Play::pump() {
  step_peer();
  socket_.arrived += socket_.to_us;
  socket_.to_us.clear();
  step_ours();
}

/** The two ends do not suit each other. */
bool Play::fails_by_design() const {
  if (setup_.server) return setup_.trust >= 2 && !setup_.certificate;
  return setup_.trust == 1 || (setup_.trust == 2 && setup_.name == 3) || setup_.trust == 4;
}

void Play::conclude(bool expect_resumption) {
  require(ours_ != nullptr, "there is no stream");
  socket_.window = SIZE_MAX;
  room_ = 65536;
  for (int i = 0, quiet = 0; i < 40 && quiet < 2; ++i) {
    pump();
    quiet = socket_.to_us.empty() && socket_.from_us.empty() && socket_.arrived.empty() ? quiet + 1 : 0;
  }
  if (!clean_) return;
  if (fails_by_design()) {
    require(state_ == State::kFailed || peer_dead_, "a handshake succeeds that must not");
    return;
  }
  require(state_ == State::kOpen && peer_open_ && !peer_dead_, "a handshake fails for no reason");
  require(!expect_resumption || resumed_, "a session is not resumed");
  for (int i = 0; i < 400 && (we_owe_ > 0 || ours_->blocked()); ++i) {
    if (ours_->blocked()) act(kFlush, nullptr);
    pump();
  }
  require(we_got_ == peer_sent_ && we_owe_ == 0 && peer_got_ == we_sent_, "something did not arrive");
  SSL_shutdown(peer_);
  pump();
  pump();
  require(state_ == State::kEnded, "the peer's goodbye is not heard");
  begin_call();
  ours_->finish();
  end_call();
  step_peer();
  require(peer_heard_end_, "our goodbye is not heard");
}

}  // namespace fuzz
