#include "signing_pool.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

namespace protorelay {

struct PooledJob {
  Signer* signer;
  SigningJob job;
};

class Pool {
 public:
  static Pool& instance() {
    // Never destroyed: its threads may still run while the process exits.
    static auto* pool = new Pool();
    return *pool;
  }

  void want(uint32_t count) {
    std::lock_guard<std::mutex> guard(lock_);
    wanted_ = count;
    if (started_) adjust();
    work_.notify_all();
  }

  void push(Signer* signer, std::vector<SigningJob>* jobs) {
    size_t count = jobs->size();
    {
      std::lock_guard<std::mutex> guard(lock_);
      if (!started_) {
        started_ = true;
        adjust();
      }
      for (SigningJob& job : *jobs) queue_.push_back({signer, std::move(job)});
    }
    jobs->clear();
    if (count == 1) {
      work_.notify_one();
    } else {
      work_.notify_all();
    }
  }

  /** Takes the jobs of a signer that no thread has begun. */
  std::vector<SigningJob> take_back(Signer* signer) {
    std::vector<SigningJob> jobs;
    std::lock_guard<std::mutex> guard(lock_);
    std::deque<PooledJob> rest;
    for (PooledJob& one : queue_) {
      if (one.signer == signer) {
        jobs.push_back(std::move(one.job));
      } else {
        rest.push_back(std::move(one));
      }
    }
    queue_.swap(rest);
    return jobs;
  }

 private:
  uint32_t most() const {
    long processors = wanted_ != 0 ? wanted_ : sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : static_cast<uint32_t>(processors);
  }

  /** Begins threads that are missing; those too many end by themselves. */
  void adjust() {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    // Signals are for the threads of Node.
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (threads_ < most()) {
      pthread_t thread;
      if (pthread_create(&thread, nullptr, run, this) != 0) break;
      pthread_detach(thread);
      ++threads_;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (threads_ == 0) started_ = false;
  }

  static void* run(void* data) {
#ifdef __linux__
    pthread_setname_np(pthread_self(), "signing");
#endif
    static_cast<Pool*>(data)->serve();
    return nullptr;
  }

  void serve() {
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      while (queue_.empty() && threads_ <= most()) work_.wait(guard);
      if (threads_ > most()) {
        --threads_;
        return;
      }
      PooledJob next = std::move(queue_.front());
      queue_.pop_front();
      {
        // Before the queue is free: close() must find the job here or there.
        std::lock_guard<std::mutex> begun(next.signer->lock_);
        ++next.signer->begun_;
      }
      guard.unlock();
      next.signer->work(next.job);
      guard.lock();
    }
  }

  std::mutex lock_;
  std::condition_variable work_;
  std::deque<PooledJob> queue_;
  uint32_t wanted_ = 0;
  uint32_t threads_ = 0;
  bool started_ = false;
};

void signing_threads(uint32_t count) { Pool::instance().want(count); }

Signer* Signer::create(uv_loop_t* loop, Arena* arena, const Calls& calls, void* owner) {
  auto* signer = new Signer();
  signer->arena_ = arena;
  signer->calls_ = calls;
  signer->owner_ = owner;
  if (uv_async_init(loop, &signer->wake_, on_wake) != 0) {
    delete signer;
    return nullptr;
  }
  signer->wake_.data = signer;
  return signer;
}

void Signer::add(SigningJob job) {
  arena_->retain(job.content);
  added_.push_back(std::move(job));
}

void Signer::flush() {
  if (!added_.empty()) Pool::instance().push(this, &added_);
}

void Signer::work(const SigningJob& job) {
  Signed result;
  result.ticket = job.ticket;
  sign_message(arena_, job, &result);
  arena_->release(job.content);
  std::lock_guard<std::mutex> guard(lock_);
  if (!closed_) {
    if (done_.empty()) uv_async_send(&wake_);
    done_.push_back(std::move(result));
  }
  // The signer may be gone as soon as the lock is.
  if (--begun_ == 0) rested_.notify_all();
}

void Signer::on_wake(uv_async_t* wake) {
  auto* signer = static_cast<Signer*>(wake->data);
  std::vector<Signed> done;
  {
    std::lock_guard<std::mutex> guard(signer->lock_);
    done.swap(signer->done_);
  }
  if (!done.empty()) signer->calls_.done(signer->owner_, done);
}

void Signer::close() {
  for (const SigningJob& job : added_) arena_->release(job.content);
  added_.clear();
  for (const SigningJob& job : Pool::instance().take_back(this)) arena_->release(job.content);
  {
    std::unique_lock<std::mutex> guard(lock_);
    closed_ = true;
    while (begun_ > 0) rested_.wait(guard);
    done_.clear();
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), [](uv_handle_t* handle) {
    auto* signer = static_cast<Signer*>(handle->data);
    signer->calls_.released(signer->owner_);
    delete signer;
  });
}

}  // namespace protorelay
