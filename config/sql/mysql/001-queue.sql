-- The queue of one shard, for MariaDB 10.6 and MySQL 8.0 or later. Times are milliseconds since 1970. Queue ids are
-- time-ordered, so new rows append at the right edge of every clustered index. Every statement may be run again:
-- neither server can undo a CREATE TABLE, so an interrupted migration is simply repeated.

-- Migrations done; written by `protorelay db migrate`.
CREATE TABLE IF NOT EXISTS relay_schema (
  version INT NOT NULL PRIMARY KEY,
  applied_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What the relays remember together: shard (which shard this database is), routes (the route table that rows
-- are keyed by), storage_owner (the name of this queue in storage that several share), auth_secret (see src/auth/shared-secret.ts; by
-- the first node that needs it).
CREATE TABLE IF NOT EXISTS relay_state (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The newest group commit of each lane of each relay process, written in its own transaction: tells what became of a
-- commit whose connection was lost.
CREATE TABLE IF NOT EXISTS relay_commits (
  lane VARCHAR(160) NOT NULL PRIMARY KEY,
  token VARCHAR(64) NOT NULL,
  result MEDIUMTEXT NOT NULL,
  committed_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Relay processes that share this queue. The slot is part of the queue ids a process makes.
CREATE TABLE IF NOT EXISTS relay_nodes (
  slot INT NOT NULL PRIMARY KEY,
  node VARCHAR(100) NOT NULL,
  seen_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- router "table": login user or sender (lower case) → name of a shard.
CREATE TABLE IF NOT EXISTS user_shards (
  user_name VARCHAR(320) NOT NULL PRIMARY KEY,
  shard VARCHAR(64) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS mails (
  id VARCHAR(16) NOT NULL PRIMARY KEY,       -- queue id
  reverse_path TEXT NOT NULL,
  body VARCHAR(10) NOT NULL,
  smtp_utf8 TINYINT NOT NULL,
  ret VARCHAR(4),
  envid TEXT,
  trace TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  client_address VARCHAR(64) NOT NULL,
  client_helo TEXT NOT NULL,
  protocol VARCHAR(16) NOT NULL,
  session_id VARCHAR(32) NOT NULL,
  object VARCHAR(255) NOT NULL,              -- object of the storage provider
  content_at BIGINT NOT NULL,                -- offset within the object
  attachments INT NOT NULL,                  -- rows of attachments
  recipients INT NOT NULL,                   -- rows of mail_recipients
  open_rows INT NOT NULL,                    -- outbox rows that still wait or are being sent
  dead TINYINT NOT NULL DEFAULT 0,           -- 1: a recipient bounced
  settled_at BIGINT,                         -- when the last recipient was settled
  KEY mails_settled (dead, settled_at),
  KEY mails_object (object)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS mail_recipients (
  mail_id VARCHAR(16) NOT NULL,
  seq INT NOT NULL,
  address TEXT NOT NULL,
  domain VARCHAR(255) NOT NULL,
  class VARCHAR(10) NOT NULL,
  notify TINYINT NOT NULL,
  orcpt TEXT,
  status ENUM('waiting','delivered','bounced','removed') NOT NULL DEFAULT 'waiting',
  reason VARCHAR(64) NOT NULL DEFAULT '',
  detail VARCHAR(2000) NOT NULL DEFAULT '',
  PRIMARY KEY (mail_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS attachments (
  mail_id VARCHAR(16) NOT NULL,
  seq INT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  content_offset BIGINT NOT NULL,
  PRIMARY KEY (mail_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS mail_outbox (
  mail_id VARCHAR(16) NOT NULL,
  destination VARCHAR(255) NOT NULL,
  state ENUM('PENDING','SENDING','SENT','RETRY','DEAD','HELD') NOT NULL,
  due_at BIGINT,                             -- PENDING, RETRY: when it is due; SENDING: when its lease ends; else NULL
  attempts INT NOT NULL,
  fence INT NOT NULL,
  lease_owner VARCHAR(160),
  seqs MEDIUMTEXT NOT NULL,                  -- recipients of the row, '0-9999' or '0,2,5-7'
  waiting INT NOT NULL,                      -- recipients of the row not settled yet
  bounced INT NOT NULL DEFAULT 0,            -- recipients of the row that bounced
  delay_notified TINYINT NOT NULL DEFAULT 0,
  reason VARCHAR(64) NOT NULL DEFAULT '',
  detail VARCHAR(2000) NOT NULL DEFAULT '',
  PRIMARY KEY (mail_id, destination),
  KEY outbox_due (destination, due_at, state)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
