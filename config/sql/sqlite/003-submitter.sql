-- Who first submitted a message, as a trusted client says (AUTH= of MAIL, xtext). NULL: not known.
ALTER TABLE mails ADD COLUMN submitter TEXT;
