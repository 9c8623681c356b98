-- A scope may name a list (docs/suppression.md), which has up to 128 characters.
ALTER TABLE suppressions MODIFY scope VARCHAR(160) NOT NULL; -- 'all', a class of mail, or list:NAME
