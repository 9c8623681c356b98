-- Addresses and domains that get no mail (docs/suppression.md). Rows are found by hash, a number made of tenant and target. A
-- version is given to a transaction by the counter in relay_state, which stays locked until it ends: so none appears after
-- a higher one was seen. Each shard has the entries that its own mail led to; one that is on any shard counts.
CREATE TABLE IF NOT EXISTS suppressions (
  hash BIGINT NOT NULL,
  tenant VARCHAR(128) NOT NULL,
  target VARCHAR(320) NOT NULL,              -- address in the form in which it is compared, or a domain
  scope VARCHAR(80) NOT NULL,                -- 'all'
  reason VARCHAR(64) NOT NULL,
  source VARCHAR(16) NOT NULL,
  detail VARCHAR(500) NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,                         -- NULL: never
  version BIGINT NOT NULL,
  PRIMARY KEY (hash, tenant, target, scope),
  KEY suppressions_version (version),
  KEY suppressions_expiry (expires_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
