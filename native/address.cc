#include "address.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

namespace protorelay {

std::string address_text(const struct sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const struct sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return std::string(text) + " " + std::to_string(ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const struct sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return std::string(text) + " " + std::to_string(ntohs(v6.sin6_port));
  }
  return "unix 0";
}

std::string local_address_text(int fd) {
  struct sockaddr_storage address = {};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<struct sockaddr*>(&address), &length);
  return address_text(address);
}

bool parse_address(const std::string& text, uint16_t port, struct sockaddr_storage* address, socklen_t* length) {
  memset(address, 0, sizeof *address);
  auto* v4 = reinterpret_cast<struct sockaddr_in*>(address);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *length = sizeof *v4;
    return true;
  }
  auto* v6 = reinterpret_cast<struct sockaddr_in6*>(address);
  if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    *length = sizeof *v6;
    return true;
  }
  auto* local = reinterpret_cast<struct sockaddr_un*>(address);
  if (text.empty() || text[0] != '/' || text.size() >= sizeof local->sun_path) return false;
  memset(address, 0, sizeof *address);
  local->sun_family = AF_UNIX;
  memcpy(local->sun_path, text.data(), text.size());
  *length = sizeof *local;
  return true;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

int open_socket(int family) {
#ifdef __linux__
  int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? -errno : fd;
#else
  int fd = ::socket(family, SOCK_STREAM, 0);
  if (fd < 0) return -errno;
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
  return fd;
#endif
}

}  // namespace protorelay
