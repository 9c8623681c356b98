-- Attributes of a message as JSON; NULL: it has none. What operators select by is read from there: no value is stored twice,
-- and a message without any costs one NULL.
ALTER TABLE mails ADD COLUMN attributes TEXT;
ALTER TABLE mails ADD COLUMN tenant TEXT GENERATED ALWAYS AS (json_extract(attributes, '$.tenant')) VIRTUAL;
ALTER TABLE mails ADD COLUMN campaign TEXT GENERATED ALWAYS AS (json_extract(attributes, '$.campaign')) VIRTUAL;
ALTER TABLE mails ADD COLUMN mail_class TEXT GENERATED ALWAYS AS (json_extract(attributes, '$.class')) VIRTUAL;
ALTER TABLE mails ADD COLUMN pool TEXT GENERATED ALWAYS AS (json_extract(attributes, '$.pool')) VIRTUAL;
