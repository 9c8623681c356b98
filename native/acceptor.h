// Accepts connections in batches and gives each socket to a reactor of some thread.
//
// Owns the listening socket, or a duplicate of one that belongs to somebody else. Promises that every socket it
// accepted is handed off, refused or closed before the batch call returns. Decides nothing: the caller says who is
// welcome, and which reactor is least loaded.
#pragma once
#include <uv.h>

#include <string>
#include <vector>

#include "listen_socket.h"

namespace protorelay {

class Acceptor {
 public:
  struct Options {
    ListenOptions listen;
    /** A socket that listens already, of which the acceptor makes a descriptor of its own. -1: open one. */
    int fd = -1;
    uint32_t listener = 0;
    uint32_t batch = 64;
  };
  struct Calls {
    void (*batch)(void* owner, const std::vector<int>& fds, const std::vector<std::string>& addresses);
    void (*error)(void* owner, int code);
    void (*released)(void* owner);
  };

  /** Makes an acceptor that accepts from now on; nullptr and -errno in `error` when that fails. */
  static Acceptor* create(uv_loop_t* loop, const Options& options, const Calls& calls, void* owner, int* error);

  uint16_t port() const { return port_; }
  bool hand_off(int fd, int reactor, const std::string& address);
  void refuse(int fd, const std::string& reply);
  void pause();
  void resume();
  /** Stops accepting; `released` is called later, on the loop. */
  void close();

 private:
  Acceptor() = default;
  ~Acceptor() = default;
  int open();
  void accept_batch();
  void rest(int error);
  bool forget(int fd);
  void watch();
  void handle_closed();
  static void on_poll(uv_poll_t* handle, int status, int events);
  static void on_timer(uv_timer_t* handle);
  static void on_closed(uv_handle_t* handle);

  Options options_;
  Calls calls_ = {};
  void* owner_ = nullptr;
  uv_poll_t poll_;
  uv_timer_t timer_;
  int open_handles_ = 0;
  int fd_ = -1;
  uint16_t port_ = 0;
  bool paused_ = false;
  bool resting_ = false;
  bool closed_ = false;
  bool owns_path_ = false;
  bool is_unix_ = false;
  /** Local address when it is the same for every connection, else empty. */
  std::string local_;
  /** Sockets of the batch under way that are not handed off or refused yet. */
  std::vector<int> unclaimed_;
};

}  // namespace protorelay
