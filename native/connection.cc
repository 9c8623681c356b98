#include "connection.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace protorelay {

void Connection::reset() {
  Reactor* owner = reactor;
  uint32_t own_slot = slot;
  uint32_t own_generation = generation;
  new (this) Connection();
  reactor = owner;
  slot = own_slot;
  generation = own_generation;
  fd = -1;
}

void Connection::keep(const uint8_t* from, size_t count) {
  if (count == 0) {
    drop_left();
    return;
  }
  if (count > left_capacity || left == nullptr) {
    auto* grown = static_cast<uint8_t*>(malloc(count));
    if (grown == nullptr) abort();
    memcpy(grown, from, count);
    free(left);
    left = grown;
    left_capacity = static_cast<uint32_t>(count);
  } else {
    memmove(left, from, count);
  }
  left_length = static_cast<uint32_t>(count);
}

void Connection::drop_left() {
  if (left == nullptr) return;
  free(left);
  left = nullptr;
  left_length = 0;
  left_capacity = 0;
}

static OutItem* new_item(const uint8_t* from, size_t count) {
  void* memory = malloc(sizeof(OutItem) + count);
  if (memory == nullptr) abort();
  auto* item = new (memory) OutItem();
  item->length = count;
  item->handle = kNoContent;
  if (count > 0) memcpy(item->data, from, count);
  return item;
}

static void append(Connection* c, OutItem* item) {
  if (c->out_last == nullptr) {
    c->out_first = item;
  } else {
    c->out_last->next = item;
  }
  c->out_last = item;
  c->out_bytes += item->length;
}

void Connection::queue_bytes(const uint8_t* from, size_t count) {
  if (count > 0) append(this, new_item(from, count));
}

void Connection::queue_content(const uint8_t* prefix, size_t prefix_length, uint32_t handle, uint64_t length,
                               bool stuffed) {
  OutItem* item = new_item(prefix, prefix_length);
  item->content = true;
  item->handle = handle;
  item->block = handle;
  item->cursor.begin(prefix_length + length, stuffed);
  append(this, item);
}

void Connection::shift_output(Arena* arena) {
  OutItem* item = out_first;
  out_first = item->next;
  if (out_first == nullptr) out_last = nullptr;
  out_bytes -= item->length;
  if (item->handle != kNoContent) arena->release(item->handle);
  free(item);
}

void Connection::drop_output(Arena* arena) {
  while (out_first != nullptr) shift_output(arena);
}

}  // namespace protorelay
