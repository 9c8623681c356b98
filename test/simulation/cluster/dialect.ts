/** The relay's statements for MariaDB, as sqlite understands them. */

const DELETE_JOINED = /^DELETE m, o, r FROM JSON_TABLE\(\?[\s\S]* STRAIGHT_JOIN mails m /;
const DELETE_LISTED =
  /^DELETE (?:t|m) FROM JSON_TABLE\(\?[\s\S]* STRAIGHT_JOIN (\w+) (?:t|m) ON (?:t|m)\.(\w+) = k\.id$/;
/** The ids of a list in JSON. */
const LISTED = '(SELECT value FROM json_each(?))';

/** Statements that together do what this one does, each with the same values. */
export function translated(sql: string): string[] {
  if (DELETE_JOINED.test(sql.trim()))
    return [
      `DELETE FROM mail_outbox WHERE mail_id IN ${LISTED}`,
      `DELETE FROM mail_recipients WHERE mail_id IN ${LISTED}`,
      `DELETE FROM mails WHERE id IN ${LISTED}`,
    ];
  const listed = DELETE_LISTED.exec(sql.trim());
  if (listed !== null) return [`DELETE FROM ${listed[1]} WHERE ${listed[2]} IN ${LISTED}`];
  return [
    sql
      .replace(
        /^SELECT TABLE_ROWS AS `rows` FROM information_schema\.TABLES[\s\S]*'(\w+)'$/,
        'SELECT count(*) AS `rows` FROM $1',
      )
      .replaceAll(/FORCE INDEX \(\w+\)/g, '')
      .replace(/^UPDATE (\w+) (\w)\s+SET/, 'UPDATE $1 AS $2 SET')
      .replaceAll(/\bFOR UPDATE\b(\s+SKIP LOCKED)?/g, '')
      .replaceAll('STRAIGHT_JOIN', 'JOIN')
      .replaceAll('CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)', 'server_ms()')
      .replace(/^\s*INSERT IGNORE/, 'INSERT OR IGNORE')
      .replace(/ON DUPLICATE KEY UPDATE/, 'ON CONFLICT DO UPDATE SET')
      .replaceAll(/\bVALUES\((\w+)\)/g, 'excluded.$1')
      .replaceAll(/\bIF\(/g, 'iif(')
      .replaceAll(/\bGREATEST\(/g, 'max(')
      // A digest of all lines: their text does as well.
      .replace(
        /BIT_XOR\(CAST\(CONV\(LEFT\(MD5\((CONCAT\([^)]*\))\), 15\), 16, 10\) AS UNSIGNED\)\)/,
        'group_concat($1)',
      )
      .replaceAll(/\bLIKE \?(?! ESCAPE)/g, "LIKE ? ESCAPE '\\'"),
  ];
}

/** A migration script as sqlite reads it. */
export function translatedScript(script: string): string {
  const indexes: string[] = [];
  const tables = script
    .replaceAll(/--[^\n]*/g, '')
    // Lengths mean nothing to it.
    .replaceAll(/ALTER TABLE \w+ MODIFY [^;]*;/g, '')
    .replaceAll(/\bENUM\([^)]*\)/g, 'TEXT')
    .replaceAll(/ COLLATE utf8mb4_bin\b/g, '')
    .replaceAll(/JSON_UNQUOTE\((JSON_EXTRACT\([^)]*\))\)/g, '$1')
    .replaceAll(/\)\s*ENGINE=[^;]*/g, ')')
    .replaceAll(/CREATE TABLE IF NOT EXISTS (\w+) \(([\s\S]*?)\n\)/g, (_, table: string, body: string) => {
      const lines = body.replaceAll(
        /\n\s+KEY (\w+) \(([^)]*)\),?/g,
        (_line, name: string, columns: string) => {
          indexes.push(`CREATE INDEX ${name} ON ${table} (${columns});`);
          return '';
        },
      );
      return `CREATE TABLE ${table} (${lines.replace(/,\s*$/, '')})`;
    });
  return `${tables}\n${indexes.join('\n')}`;
}

/**
 * What must never happen to a row, whoever changes it. `violation` is a function of the database.
 */
export const WATCH = `
CREATE TRIGGER fence_back BEFORE UPDATE OF fence ON mail_outbox WHEN NEW.fence < OLD.fence
  BEGIN SELECT violation('the fence of ' || OLD.mail_id || ' goes back'); END;
CREATE TRIGGER lease_without_fence BEFORE UPDATE OF lease_owner ON mail_outbox
  WHEN NEW.state = 'SENDING' AND NEW.fence = OLD.fence AND coalesce(OLD.lease_owner, '') <> NEW.lease_owner
  BEGIN SELECT violation('a lease of ' || OLD.mail_id || ' without a new fence'); END;
CREATE TRIGGER settled_by_another BEFORE UPDATE OF state ON mail_outbox
  WHEN OLD.state = 'SENDING' AND NEW.state IN ('SENT', 'DEAD', 'RETRY') AND NEW.lease_owner IS NULL
    AND substr(OLD.lease_owner, 1, length(asking_node()) + 1) <> asking_node() || '#'
  BEGIN SELECT violation(asking_node() || ' settles a row of ' || OLD.mail_id || ' that ' || OLD.lease_owner || ' is sending'); END;
CREATE TRIGGER settled_again BEFORE UPDATE OF state ON mail_outbox
  WHEN OLD.state IN ('SENT', 'DEAD') AND NEW.state <> OLD.state
  BEGIN SELECT violation('a settled row of ' || OLD.mail_id || ' becomes ' || NEW.state); END;
CREATE TRIGGER second_fate BEFORE UPDATE OF status ON mail_recipients WHEN OLD.status <> 'waiting'
  BEGIN SELECT violation('a second fate for ' || OLD.mail_id || ' ' || OLD.seq); END;
`;
