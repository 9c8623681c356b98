-- Relay processes that died while an attempt of the row was under way, one after another.
ALTER TABLE mail_outbox ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
