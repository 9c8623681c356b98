// Executes operations. None of them writes an event; see reactor.h.
//
// An operation in the ring owns a reference on the content that it names. It was taken when the operation was written
// (src/native/ring-reactor.ts); it passes to the output of the connection, or is given back with the operation.
#include "reactor.h"
#include "transport.h"

namespace protorelay {
namespace {

/** OP of src/native.ts. */
enum Op : uint32_t {
  kSend = 1,
  kExpectLines = 2,
  kExpectData = 3,
  kExpectChunk = 4,
  kDropContent = 5,
  kHold = 6,
  kDeadline = 7,
  kMinRate = 8,
  kClose = 9,
  kSendContent = 10,
  kExpectProxy = 11,
  kSecure = 12,
  kAccount = 13,
};

uint64_t wide(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

}  // namespace

void Reactor::run_ops() {
  uint32_t words = setup_.control[0];
  if (words > setup_.op_words) words = setup_.op_words;
  // The loop's time is that of its last poll: a thread that has worked for long since then would set deadlines too
  // early.
  if (words > 0) uv_update_time(loop_);
  for (uint32_t at = 0; at + kOpWords <= words; at += kOpWords) run_op(setup_.ops + at);
  setup_.control[0] = 0;
  setup_.control[1] = 0;
  for (Connection* c : touched_) {
    c->touched = false;
    if (c->staged_first != 0) send_staged(c);
    if (c->mode == Mode::kClosed || c->opening() || c->failed != 0) continue;
    // Content is written without a poll first: the socket is nearly always writable.
    if (c->out_first != nullptr && (c->poll_mask & UV_WRITABLE) == 0) {
      write_output(c);
    } else if (c->out_first == nullptr && !transport_blocked(c) && c->closing && c->mode != Mode::kLingering) {
      finish_closing(c);
    } else {
      watch(c);
    }
  }
  touched_.clear();
  staged_.clear();
}

void Reactor::run_op(const uint32_t* op) {
  Connection* c = find(op[1]);
  bool at_once = (op[0] & 0xff) == kClose && op[2] != 0;
  if (c == nullptr || (c->closing && !at_once)) {
    drop_op(op);
    return;
  }
  if (!c->touched) {
    c->touched = true;
    touched_.push_back(c);
  }
  switch (op[0] & 0xff) {
    case kSend:
      if (uint64_t{op[2]} + op[3] <= setup_.byte_capacity && op[3] > 0) stage(c, op[2], op[3]);
      break;
    case kExpectLines:
      expect(c, Mode::kLines);
      break;
    case kExpectData:
      op_content(c, op);
      break;
    case kExpectChunk:
      op_chunk(c, op);
      break;
    case kDropContent:
      c->gather.drop();
      break;
    case kHold:
      if (c->mode == Mode::kLines) c->held = true;
      break;
    case kDeadline:
      if (c->opening()) break;  // connect has its own timeout
      c->deadline_ms = op[2];
      c->deadline_at = op[2] == 0 ? 0 : uv_now(loop_) + op[2];
      if (c->deadline_at != 0) due_at(c->deadline_at);
      break;
    case kMinRate:
      c->rate = op[2];
      c->rate_grace_ms = op[3];
      c->rate_check_at = 0;
      if ((c->mode == Mode::kContent || c->mode == Mode::kChunk) && !c->held) watch_rate(c);
      break;
    case kClose:
      if (at_once || c->opening()) {
        send_staged(c);
        retire(c, kLocal, 0);
        break;
      }
      c->closing = true;
      c->deadline_ms = 0;
      c->rate_check_at = 0;
      c->gather.drop();
      c->deadline_at = uv_now(loop_) + (setup_.linger_ms > 0 ? setup_.linger_ms : 1);
      due_at(c->deadline_at);
      break;
    case kSendContent:
      op_send_content(c, op);
      break;
    case kExpectProxy:
      expect(c, Mode::kProxyHeader);
      break;
    case kSecure:
      op_secure(c, op);
      break;
    case kAccount:
      c->account = {op[2], op[3], op[4] != 0};
      break;
    default:
      break;
  }
}

/** Gives back what an operation holds that is not executed. */
void Reactor::drop_op(const uint32_t* op) {
  if ((op[0] & 0xff) == kSendContent) setup_.arena->release(op[4]);
}

/** Drops all operations in the ring, which nobody will execute any more. */
void Reactor::drop_ops() {
  uint32_t words = setup_.control[0] < setup_.op_words ? setup_.control[0] : setup_.op_words;
  for (uint32_t at = 0; at + kOpWords <= words; at += kOpWords) drop_op(setup_.ops + at);
  setup_.control[0] = 0;
  setup_.control[1] = 0;
}

/** The session said how to read on: bytes that were kept are parsed after the operations, then the socket is polled again. */
void Reactor::expect(Connection* c, Mode mode) {
  if (c->opening() || c->mode == Mode::kLingering || c->mode == Mode::kHandshake) return;
  c->mode = mode;
  c->held = false;
  c->input_parked = false;
  want_input(c);
  if (c->has_left()) push_pending(c);
  if (mode == Mode::kLines || mode == Mode::kProxyHeader) {
    c->rate_check_at = 0;
    return;
  }
  c->content_started_at = uv_now(loop_);
  c->content_bytes = 0;
  watch_rate(c);
}

void Reactor::op_content(Connection* c, const uint32_t* op) {
  c->scan.begin(true, op[5] != 0, op[4]);
  c->gather.begin(setup_.arena, &setup_.accounts, c->account, wide(op[2], op[3]), setup_.spill_threshold);
  expect(c, Mode::kContent);
}

void Reactor::op_chunk(Connection* c, const uint32_t* op) {
  // words: bytes low, bytes high, limit low, limit high, longest line, last | normalize << 1
  uint64_t limit = wide(op[4], op[5]);
  if (c->gather.active()) {
    c->gather.limit(limit);
  } else {
    c->scan.begin(false, (op[7] & 2) != 0, op[6]);
    c->gather.begin(setup_.arena, &setup_.accounts, c->account, limit, setup_.spill_threshold);
  }
  c->chunk_left = wide(op[2], op[3]);
  c->chunk_last = (op[7] & 1) != 0;
  expect(c, Mode::kChunk);
}

void Reactor::op_send_content(Connection* c, const uint32_t* op) {
  // words: prefix offset, prefix length, content, stuffed
  uint32_t handle = op[4];
  if (uint64_t{op[2]} + op[3] > setup_.byte_capacity) {
    drop_op(op);
    return;
  }
  if (c->staged_first != 0) send_staged(c);
  c->queue_content(setup_.bytes + op[2], op[3], handle, setup_.arena->record(handle)->length, op[5] != 0);
}

}  // namespace protorelay
