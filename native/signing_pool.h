// Worker threads that sign messages, and the way of signatures back to the loop of whoever asked.
//
// One pool for the process: its threads begin with the first work. A signer belongs to one loop; it holds a reference on
// each content until its signature is made. Promises that every job is answered once, unless its signer is closed before,
// and that nothing of an arena is read once close() has returned.
#pragma once
#include <uv.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "arena.h"
#include "dkim_sign.h"

namespace protorelay {

/** Longest header section of a content that is signed. */
constexpr size_t kMostHeaderBytes = 1 << 20;

struct SigningJob {
  uint32_t ticket = 0;
  uint32_t content = kNoContent;
  /** Header fields that go before the content. */
  std::string before;
  std::vector<std::shared_ptr<const DkimKey>> keys;
  std::shared_ptr<const DkimRules> rules;
  DkimTimes times;
};

struct Signed {
  uint32_t ticket = 0;
  /** The fields, one of each key, each with its CRLF; empty when `fault` says why there are none. */
  std::string fields;
  std::string fault;
};

/** Signs one message, now and on this thread. */
void sign_message(Arena* arena, const SigningJob& job, Signed* result);

class Signer {
 public:
  struct Calls {
    /** On the loop: what was signed since the last call. */
    void (*done)(void* owner, const std::vector<Signed>& done);
    void (*released)(void* owner);
  };

  /** The arena must live until close() was called. nullptr when libuv refuses. */
  static Signer* create(uv_loop_t* loop, Arena* arena, const Calls& calls, void* owner);

  /** Takes a job, with a reference of its own on the content; begun by flush(). */
  void add(SigningJob job);
  void flush();
  /** Drops jobs that were not begun, and waits for those that were; `released` is called later, on the loop. */
  void close();

 private:
  friend class Pool;
  Signer() = default;
  ~Signer() = default;
  /** On a worker. */
  void work(const SigningJob& job);
  static void on_wake(uv_async_t* wake);

  Arena* arena_ = nullptr;
  Calls calls_ = {};
  void* owner_ = nullptr;
  uv_async_t wake_;
  std::vector<SigningJob> added_;
  std::mutex lock_;
  std::condition_variable rested_;
  /** Guarded by lock_: */
  std::vector<Signed> done_;
  /** Jobs that workers have begun. */
  size_t begun_ = 0;
  bool closed_ = false;
};

/** How many threads sign; begins or ends them. 0: as many as there are processors. */
void signing_threads(uint32_t count);

}  // namespace protorelay
