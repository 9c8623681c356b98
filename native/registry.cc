#include "registry.h"

#include <unistd.h>

#include <mutex>

namespace protorelay {
namespace {

struct Entry {
  uv_async_t* wake = nullptr;
  int load = 0;
  int limit = 0;
  std::vector<HandOff> inbox;
};

// Never destroyed: threads may still close reactors while the process exits.
std::mutex& lock() {
  static auto* mutex = new std::mutex();
  return *mutex;
}
std::vector<Entry>& entries() {
  static auto* list = new std::vector<Entry>();
  return *list;
}

Entry* find(int id) {
  if (id < 0 || static_cast<size_t>(id) >= entries().size()) return nullptr;
  Entry* entry = &entries()[static_cast<size_t>(id)];
  return entry->wake == nullptr ? nullptr : entry;
}

}  // namespace

int registry_add(uv_async_t* wake, uint32_t max_connections) {
  std::lock_guard<std::mutex> guard(lock());
  // Numbers are never used twice, because a late hand-off must not reach another reactor. A process makes few reactors.
  entries().emplace_back();
  Entry& entry = entries().back();
  entry.wake = wake;
  entry.limit = static_cast<int>(max_connections);
  return static_cast<int>(entries().size()) - 1;
}

void registry_remove(int id) {
  std::lock_guard<std::mutex> guard(lock());
  Entry* entry = find(id);
  if (entry == nullptr) return;
  for (const HandOff& arrival : entry->inbox) ::close(arrival.fd);
  *entry = Entry();
}

void registry_count(int id, int change) {
  std::lock_guard<std::mutex> guard(lock());
  if (Entry* entry = find(id)) entry->load += change;
}

bool registry_hand_off(int id, int fd, const std::string& address) {
  std::lock_guard<std::mutex> guard(lock());
  Entry* entry = find(id);
  if (entry == nullptr || entry->load >= entry->limit) return false;
  bool first = entry->inbox.empty();
  entry->inbox.push_back({fd, address});
  ++entry->load;
  if (first) uv_async_send(entry->wake);
  return true;
}

void registry_collect(int id, std::vector<HandOff>* into) {
  std::lock_guard<std::mutex> guard(lock());
  Entry* entry = find(id);
  if (entry == nullptr) return;
  for (HandOff& arrival : entry->inbox) into->push_back(std::move(arrival));
  entry->inbox.clear();
}

int registry_load(int id) {
  std::lock_guard<std::mutex> guard(lock());
  Entry* entry = find(id);
  return entry == nullptr ? -1 : entry->load;
}

}  // namespace protorelay
