-- Attributes of a message as JSON; NULL: it has none. What operators select by is read from there: no value is stored twice,
-- and a message without any costs one NULL.
ALTER TABLE mails ADD COLUMN attributes TEXT;
ALTER TABLE mails ADD COLUMN tenant VARCHAR(512) COLLATE utf8mb4_bin AS (JSON_UNQUOTE(JSON_EXTRACT(attributes, '$.tenant'))) VIRTUAL;
ALTER TABLE mails ADD COLUMN campaign VARCHAR(512) COLLATE utf8mb4_bin AS (JSON_UNQUOTE(JSON_EXTRACT(attributes, '$.campaign'))) VIRTUAL;
ALTER TABLE mails ADD COLUMN mail_class VARCHAR(16) COLLATE utf8mb4_bin AS (JSON_UNQUOTE(JSON_EXTRACT(attributes, '$.class'))) VIRTUAL;
ALTER TABLE mails ADD COLUMN pool VARCHAR(512) COLLATE utf8mb4_bin AS (JSON_UNQUOTE(JSON_EXTRACT(attributes, '$.pool'))) VIRTUAL;
