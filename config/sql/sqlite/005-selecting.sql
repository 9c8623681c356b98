-- What operators select mail by. listener: name of where it came in, '' for our own reports.
ALTER TABLE mails ADD COLUMN message_id TEXT NOT NULL DEFAULT '';
ALTER TABLE mails ADD COLUMN auth_user TEXT;
ALTER TABLE mails ADD COLUMN listener TEXT NOT NULL DEFAULT '';
ALTER TABLE mails ADD COLUMN headers INTEGER NOT NULL DEFAULT 0;  -- rows of mail_headers

-- Header fields that were kept at intake (queue.kept_headers): name in lower case, value unfolded.
CREATE TABLE mail_headers (
  mail_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (mail_id, seq)
) WITHOUT ROWID;

-- Reasons are snake_case.
UPDATE mail_outbox SET reason = replace(reason, '-', '_') WHERE reason LIKE '%-%';
UPDATE mail_recipients SET reason = replace(reason, '-', '_') WHERE reason LIKE '%-%';
