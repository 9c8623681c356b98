#include "acceptor.h"

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>

#include "address.h"
#include "registry.h"

namespace protorelay {
namespace {

constexpr uint64_t kRestMs = 100;

int accept_socket(int listener, struct sockaddr_storage* peer) {
  socklen_t length = sizeof *peer;
  peer->ss_family = AF_UNSPEC;
#ifdef __linux__
  return ::accept4(listener, reinterpret_cast<struct sockaddr*>(peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  int fd = ::accept(listener, reinterpret_cast<struct sockaddr*>(peer), &length);
  if (fd < 0) return fd;
  int on = 1;
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
  if (peer->ss_family != AF_UNIX) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
#endif
}

}  // namespace

Acceptor* Acceptor::create(uv_loop_t* loop, const Options& options, const Calls& calls, void* owner, int* error) {
  auto* a = new Acceptor();
  a->options_ = options;
  a->calls_ = calls;
  a->owner_ = owner;
  *error = a->open();
  if (*error == 0) *error = uv_poll_init(loop, &a->poll_, a->fd_);
  if (*error != 0) {
    if (a->fd_ >= 0) ::close(a->fd_);
    delete a;
    return nullptr;
  }
  uv_timer_init(loop, &a->timer_);
  a->poll_.data = a;
  a->timer_.data = a;
  a->open_handles_ = 2;
  a->watch();
  return a;
}

int Acceptor::open() {
  int fd = options_.fd >= 0 ? listen_adopt(options_.fd) : listen_open(options_.listen);
  if (fd < 0) return fd;
  fd_ = fd;
  is_unix_ = listen_is_unix(fd);
  owns_path_ = options_.fd < 0 && is_unix_;
  port_ = listen_port(fd);
  local_ = listen_local(fd);
  return 0;
}

void Acceptor::watch() {
  if (closed_) return;
  if (paused_ || resting_) {
    uv_poll_stop(&poll_);
  } else {
    uv_poll_start(&poll_, UV_READABLE, on_poll);
  }
}

void Acceptor::on_poll(uv_poll_t* handle, int status, int) {
  auto* a = static_cast<Acceptor*>(handle->data);
  if (status == 0) {
    a->accept_batch();
  } else {
    a->rest(-status);
  }
}

void Acceptor::on_timer(uv_timer_t* handle) {
  auto* a = static_cast<Acceptor*>(handle->data);
  a->resting_ = false;
  a->watch();
}

void Acceptor::accept_batch() {
  std::vector<int> fds;
  std::vector<std::string> addresses;
  int failure = 0;
  while (fds.size() < options_.batch) {
    struct sockaddr_storage peer;
    int fd = accept_socket(fd_, &peer);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) failure = errno;
      break;
    }
    fds.push_back(fd);
    // A Unix socket peer has no name, and accept may leave the family unset.
    std::string remote = is_unix_ ? "unix 0" : address_text(peer);
    addresses.push_back(remote + " " + (local_.empty() ? local_address_text(fd) : local_));
  }
  if (!fds.empty()) {
    unclaimed_ = fds;
    calls_.batch(owner_, fds, addresses);
    for (int fd : unclaimed_) ::close(fd);
    unclaimed_.clear();
  }
  if (failure != 0 && !closed_) rest(failure);
}

/** Pauses polling for want of descriptors or memory: the connection stays in the backlog, so polling on would spin. */
void Acceptor::rest(int error) {
  resting_ = true;
  watch();
  uv_timer_start(&timer_, on_timer, kRestMs, 0);
  calls_.error(owner_, error);
}

bool Acceptor::forget(int fd) {
  auto at = std::find(unclaimed_.begin(), unclaimed_.end(), fd);
  if (at == unclaimed_.end()) return false;
  unclaimed_.erase(at);
  return true;
}

bool Acceptor::hand_off(int fd, int reactor, const std::string& address) {
  if (std::find(unclaimed_.begin(), unclaimed_.end(), fd) == unclaimed_.end()) return false;
  if (!registry_hand_off(reactor, fd, std::to_string(options_.listener) + " " + address)) return false;
  forget(fd);
  return true;
}

void Acceptor::refuse(int fd, const std::string& reply) {
  if (!forget(fd)) return;
  // One attempt without waiting: a new socket has room for a line, and if the peer is gone nothing is lost.
  ssize_t sent = ::send(fd, reply.data(), reply.size(), MSG_DONTWAIT);
  (void)sent;
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

void Acceptor::pause() {
  paused_ = true;
  watch();
}

void Acceptor::resume() {
  paused_ = false;
  watch();
}

void Acceptor::close() {
  if (closed_) return;
  closed_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), on_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_), on_closed);
  ::close(fd_);
  if (owns_path_) ::unlink(options_.listen.path.c_str());
}

void Acceptor::on_closed(uv_handle_t* handle) { static_cast<Acceptor*>(handle->data)->handle_closed(); }

void Acceptor::handle_closed() {
  if (--open_handles_ > 0) return;
  Calls calls = calls_;
  void* owner = owner_;
  delete this;
  calls.released(owner);
}

}  // namespace protorelay
