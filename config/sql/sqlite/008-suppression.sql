-- Addresses and domains that get no mail (docs/suppression.md). Rows are found by hash, a number made of tenant and target,
-- and are never renumbered: whoever knows all rows up to an id asks for those after it.
CREATE TABLE suppressions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  target TEXT NOT NULL,                  -- address in the form in which it is compared, or a domain
  scope TEXT NOT NULL,                   -- 'all'
  reason TEXT NOT NULL,
  source TEXT NOT NULL,
  detail TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER                     -- NULL: never
);
CREATE INDEX suppressions_hash ON suppressions (hash);
CREATE INDEX suppressions_expiry ON suppressions (expires_at) WHERE expires_at IS NOT NULL;

-- Tells this table from any other: whoever remembers rows of another one begins anew.
INSERT INTO relay_state VALUES ('suppression_epoch', abs(random() % 4503599627370496));
