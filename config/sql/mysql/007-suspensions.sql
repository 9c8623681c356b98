-- Rules of operators that hold mail back (`protorelay suspend`), by which nodes tell each other. A rule only ever goes from
-- holding to over.
CREATE TABLE IF NOT EXISTS relay_suspensions (
  id VARCHAR(16) NOT NULL PRIMARY KEY,
  rule MEDIUMTEXT NOT NULL,                  -- JSON: what it means, why, and who ordered it
  created_at BIGINT NOT NULL,
  until_at BIGINT,                           -- NULL: until it is resumed
  ended_at BIGINT                            -- NULL: nobody resumed it
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
