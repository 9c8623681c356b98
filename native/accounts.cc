#include "accounts.h"

namespace protorelay {
namespace {

constexpr uint32_t kRows = 4;
constexpr uint32_t kCells = 65536;
constexpr uint32_t kPlaces = 8;
constexpr uint32_t kLimitsAt = kPlaces;
constexpr uint32_t kLimits = 5;
constexpr uint32_t kHeaderWords = 64;
constexpr size_t kRegionWords = kHeaderWords + size_t{kRows} * kCells * kPlaces;
enum Limit : uint32_t { kTotal = 0, kClient = 1, kNetwork = 2, kTrusted = 3, kStrangers = 4 };

size_t cell(uint32_t hash, uint32_t row) {
  uint32_t mixed = hash ^ (row + 1) * 0x9e3779b9u;
  mixed = (mixed ^ mixed >> 16) * 0x85ebca6bu;
  mixed = (mixed ^ mixed >> 13) * 0xc2b2ae35u;
  return kHeaderWords + (size_t{row} * kCells + ((mixed ^ mixed >> 16) & (kCells - 1))) * kPlaces;
}

}  // namespace

bool Accounts::attach(uint8_t* region, size_t bytes) {
  if (bytes < kRegionWords * sizeof(int32_t)) return false;
  words_ = reinterpret_cast<int32_t*>(region);
  return true;
}

int32_t Accounts::limit(uint32_t resource, uint32_t which) const {
  return __atomic_load_n(words_ + kLimitsAt + resource * kLimits + which, __ATOMIC_RELAXED);
}

/**
 * Adds to one cell in each row. Returns the least of these counts: too high if others share all cells, never too low.
 */
int32_t Accounts::add(uint32_t hash, uint32_t resource, int32_t amount) {
  int32_t least = INT32_MAX;
  for (uint32_t row = 0; row < kRows; ++row) {
    int32_t count = __atomic_add_fetch(words_ + cell(hash, row) + resource, amount, __ATOMIC_RELAXED);
    if (count < least) least = count;
  }
  return least;
}

bool Accounts::take(const Account& account, AccountResource resource, uint32_t amount) {
  if (words_ == nullptr) return true;
  auto change = static_cast<int32_t>(amount);
  int32_t total = __atomic_add_fetch(words_ + resource, change, __ATOMIC_RELAXED);
  int32_t of_client = add(account.client, resource, change);
  int32_t of_network = add(account.network, resource, change);
  bool fits = total <= limit(resource, kTotal) && (account.trusted || total <= limit(resource, kStrangers)) &&
              of_client <= limit(resource, account.trusted ? kTrusted : kClient) &&
              (account.trusted || of_network <= limit(resource, kNetwork));
  if (!fits) give(account, resource, amount);
  return fits;
}

void Accounts::give(const Account& account, AccountResource resource, uint32_t amount) {
  if (words_ == nullptr || amount == 0) return;
  auto change = -static_cast<int32_t>(amount);
  __atomic_add_fetch(words_ + resource, change, __ATOMIC_RELAXED);
  add(account.client, resource, change);
  add(account.network, resource, change);
}

}  // namespace protorelay
