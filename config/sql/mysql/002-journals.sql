-- How far this shard has taken over the journals of relay processes (inbound_ack_mode after_journal), written in the
-- transaction that takes messages over: all records up to seq, but for those that are pending (a JSON list).
CREATE TABLE IF NOT EXISTS relay_journals (
  journal VARCHAR(32) NOT NULL PRIMARY KEY,
  seq BIGINT NOT NULL,
  pending TEXT NOT NULL,
  updated_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
