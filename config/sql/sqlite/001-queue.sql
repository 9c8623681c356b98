-- The queue of one relay. Times are milliseconds since 1970. WITHOUT ROWID where a row is found by its key only:
-- queue ids are time-ordered, so new rows append at the right edge of every tree.

-- What the relay remembers of itself: schema_version, routes (the route table that rows are keyed by),
-- last_commit (token and result of the newest group commit).
CREATE TABLE relay_state (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE mails (
  id TEXT NOT NULL PRIMARY KEY,          -- queue id
  reverse_path TEXT NOT NULL,
  body TEXT NOT NULL,
  smtp_utf8 INTEGER NOT NULL,
  ret TEXT,
  envid TEXT,
  trace TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  client_address TEXT NOT NULL,
  client_helo TEXT NOT NULL,
  protocol TEXT NOT NULL,
  session_id TEXT NOT NULL,
  object TEXT,                           -- object of the storage provider; NULL: rows of content
  content_at INTEGER NOT NULL,           -- first row of content, or offset within the object
  content_parts INTEGER NOT NULL,        -- rows of content
  attachments INTEGER NOT NULL,          -- rows of attachments
  open_rows INTEGER NOT NULL,            -- outbox rows that still wait or are being sent
  dead INTEGER NOT NULL DEFAULT 0,       -- 1: a recipient bounced
  settled_at INTEGER                     -- when the last recipient was settled
) WITHOUT ROWID;
CREATE INDEX mails_settled ON mails (dead, settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX mails_object ON mails (object) WHERE object IS NOT NULL;

CREATE TABLE mail_recipients (
  mail_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  address TEXT NOT NULL,
  domain TEXT NOT NULL,
  class TEXT NOT NULL,
  notify INTEGER NOT NULL,
  orcpt TEXT,
  status TEXT NOT NULL DEFAULT 'waiting',
  reason TEXT NOT NULL DEFAULT '',
  detail TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (mail_id, seq)
) WITHOUT ROWID;

CREATE TABLE attachments (
  mail_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  PRIMARY KEY (mail_id, seq)
) WITHOUT ROWID;

CREATE TABLE mail_outbox (
  mail_id TEXT NOT NULL,
  destination TEXT NOT NULL,
  state TEXT NOT NULL,
  due_at INTEGER,                        -- only PENDING and RETRY have one: whatever else is in no index
  attempts INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  lease_owner TEXT,
  lease_until INTEGER,
  seqs TEXT NOT NULL,                    -- recipients of the row, '0-9999' or '0,2,5-7'
  waiting INTEGER NOT NULL,              -- recipients of the row not settled yet
  bounced INTEGER NOT NULL DEFAULT 0,    -- recipients of the row that bounced
  delay_notified INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  detail TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (mail_id, destination)
) WITHOUT ROWID;
CREATE INDEX outbox_due ON mail_outbox (destination, due_at) WHERE due_at IS NOT NULL;

-- Content of the database storage provider: the parts of one message have consecutive ids.
CREATE TABLE content (
  id INTEGER NOT NULL PRIMARY KEY,
  bytes BLOB NOT NULL
);
