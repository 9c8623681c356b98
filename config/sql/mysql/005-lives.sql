-- The life (start to end of a relay process) that has a node id now. Whoever holds the id has the server's lock of that
-- name as well, which ends with its connection; the row says who it is, and lasts where a lock does not (failover).
CREATE TABLE IF NOT EXISTS relay_lives (
  node VARCHAR(100) NOT NULL PRIMARY KEY,
  life VARCHAR(160) NOT NULL,
  place VARCHAR(300) NOT NULL,               -- 'pid 123 on host.example.net'
  since BIGINT NOT NULL,
  seen_at BIGINT NOT NULL                    -- of the server's clock, as `since`
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
