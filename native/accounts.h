// Counts what each client holds of shared resources, in memory that all threads and processes of the host have mapped.
//
// Owns nothing: src/policy/accounts.ts lays out the memory and counts in it as well, so a change here is a change
// there. Promises that taking and giving back need neither lock nor allocation.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** The RESOURCES of src/policy/accounts.ts that the reactor takes. */
enum AccountResource : uint32_t { kContentKib = 3, kSpillKib = 4 };

/** Whom something is counted for. */
struct Account {
  uint32_t client;
  uint32_t network;
  bool trusted;
};

class Accounts {
 public:
  /** The region of this process; false when it is too short. */
  bool attach(uint8_t* region, size_t bytes);
  /** Takes `amount` for the client; takes nothing and returns false when a total or the client's share would be exceeded. */
  bool take(const Account& account, AccountResource resource, uint32_t amount);
  void give(const Account& account, AccountResource resource, uint32_t amount);

 private:
  int32_t add(uint32_t hash, uint32_t resource, int32_t amount);
  int32_t limit(uint32_t resource, uint32_t which) const;

  int32_t* words_ = nullptr;
};

}  // namespace protorelay
