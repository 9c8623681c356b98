// Leads a new connection through its proxy; the session learns of it when it leads to the peer.
#include <cerrno>
#include <sys/socket.h>

#include "reactor.h"

namespace protorelay {

/** The connection to the proxy stands. The deadline of connect stays: it holds for the way through, too. */
void Reactor::begin_hop(Connection* c) {
  c->mode = Mode::kHop;
  run_hop(c);
}

/** Sends and reads what is due, as far as the socket lets it. */
void Reactor::run_hop(Connection* c) {
  Hop* hop = c->hop;
  while (hop->error() == 0 && !hop->done()) {
    if (!hop->output().empty()) {
      ssize_t n = ::send(c->fd, hop->output().data(), hop->output().size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return watch(c);
      if (n < 0) return retire(c, kConnectFailed, errno);
      hop->sent(static_cast<size_t>(n));
      continue;
    }
    ssize_t n = ::recv(c->fd, scratch_.get(), hop->wanted(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return watch(c);
    if (n <= 0) return retire(c, kConnectFailed, n < 0 ? errno : ECONNRESET);
    hop->feed(scratch_.get(), static_cast<size_t>(n));
  }
  if (hop->error() != 0) return retire(c, kConnectFailed, hop->error());
  delete hop;
  c->hop = nullptr;
  connected(c);
}

}  // namespace protorelay
