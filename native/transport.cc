#include "transport.h"

#include <cerrno>
#include <sys/socket.h>

namespace protorelay {

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // node ignores SIGPIPE
#endif

static ssize_t receive_plain(int fd, uint8_t* to, size_t room) {
  for (;;) {
    ssize_t n = ::recv(fd, to, room, 0);
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  }
}

ssize_t transport_receive(Connection* c, uint8_t* to, size_t room) {
  return c->tls != nullptr ? c->tls->receive(to, room) : receive_plain(c->fd, to, room);
}

ssize_t transport_discard(Connection* c, uint8_t* to, size_t room) {
  return c->tls != nullptr ? c->tls->discard(to, room) : receive_plain(c->fd, to, room);
}

ssize_t transport_send(Connection* c, const struct iovec* pieces, size_t count) {
  if (c->tls != nullptr) return c->tls->send(pieces, count);
  for (;;) {
    ssize_t n;
    if (count == 1) {
      n = ::send(c->fd, pieces[0].iov_base, pieces[0].iov_len, kSendFlags);
    } else {
      struct msghdr message = {};
      message.msg_iov = const_cast<struct iovec*>(pieces);
      message.msg_iovlen = count;
      n = ::sendmsg(c->fd, &message, kSendFlags);
    }
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  }
}

int transport_flush(Connection* c) { return c->tls == nullptr ? 0 : c->tls->flush(); }

void transport_goodbye(Connection* c) {
  if (c->tls != nullptr) c->tls->finish();
}

void transport_finish(Connection* c) {
  transport_goodbye(c);
  ::shutdown(c->fd, SHUT_WR);
}

}  // namespace protorelay
