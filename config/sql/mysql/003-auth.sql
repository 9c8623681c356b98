-- Who first submitted a message, as a trusted client says (AUTH= of MAIL, xtext). NULL: not known.
ALTER TABLE mails ADD COLUMN submitter VARCHAR(500);

-- Users of AUTH: what a backend of type "database" without a path reads and `protorelay user` writes, on the first shard.
-- Tables on the others stay empty. A table that is there already is left as it is.
CREATE TABLE IF NOT EXISTS users (
  username VARCHAR(255) NOT NULL PRIMARY KEY,
  hash VARCHAR(512) NOT NULL,
  sender_policy VARCHAR(8),
  senders TEXT,
  messages_per_hour INT,
  messages_per_day INT,
  recipients_per_hour INT,
  recipients_per_day INT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
