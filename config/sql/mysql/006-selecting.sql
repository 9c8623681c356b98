-- What operators select mail by. listener: name of where it came in, '' for our own reports.
ALTER TABLE mails ADD COLUMN message_id VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE mails ADD COLUMN auth_user VARCHAR(255);
ALTER TABLE mails ADD COLUMN listener VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE mails ADD COLUMN headers INT NOT NULL DEFAULT 0;  -- rows of mail_headers

-- Header fields that were kept at intake (queue.kept_headers): name in lower case, value unfolded.
CREATE TABLE IF NOT EXISTS mail_headers (
  mail_id VARCHAR(16) NOT NULL,
  seq INT NOT NULL,
  name VARCHAR(128) NOT NULL,
  value VARCHAR(1000) NOT NULL,
  PRIMARY KEY (mail_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Reasons are snake_case.
UPDATE mail_outbox SET reason = replace(reason, '-', '_') WHERE reason LIKE '%-%';
UPDATE mail_recipients SET reason = replace(reason, '-', '_') WHERE reason LIKE '%-%';
