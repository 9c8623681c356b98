// Opens listening sockets, and gives facts about those that came from elsewhere (a parent process, systemd).
#pragma once
#include <string>

namespace protorelay {

struct ListenOptions {
  std::string host;
  /** Unix socket path instead of host and port. */
  std::string path;
  uint16_t port = 0;
  int backlog = 511;
  bool reuse_port = false;
};

/**
 * Opens a listening socket, nonblocking and close-on-exec; replaces a stale socket file at `path`. The descriptor, or
 * -errno.
 */
int listen_open(const ListenOptions& options);
/** Makes a descriptor of our own for a listening socket, nonblocking; -errno when `fd` is no such socket. */
int listen_adopt(int fd);
/** The TCP port of a socket; 0 for a Unix socket. */
uint16_t listen_port(int fd);
/** Address of this end when it is the same for every connection, as address_text; else empty. */
std::string listen_local(int fd);
/** Where a socket listens: address_text, or the path of a Unix socket. */
std::string listen_place(int fd);
bool listen_is_unix(int fd);

}  // namespace protorelay
