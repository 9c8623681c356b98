/** Generates the two files that follow from the schema: docs/configuration.md and config/relay.schema.json. */
import { z } from 'zod';
import { configSchema } from './schema.ts';
import { accepts, defaultOf, inner, isLive, shapeOf } from './shape.ts';

/** JSON Schema for editors (draft 7, what most of them read). */
export function jsonSchema(): string {
  const schema = z.toJSONSchema(configSchema, {
    io: 'input',
    target: 'draft-7',
    // Our own notes on a key are not JSON Schema.
    override: ({ jsonSchema }) => {
      delete jsonSchema.live;
      delete jsonSchema.secret;
      if (jsonSchema.default_text !== undefined) delete jsonSchema.default;
      delete jsonSchema.default_text;
    },
  });
  return `${JSON.stringify({ ...schema, title: 'ProtoRelay configuration', allowTrailingCommas: true }, null, 2)}\n`;
}

const INTRODUCTION = `# Configuration

Generated from \`src/config/schema.ts\` by \`protorelay config reference --write\`; do not edit.

One JSON file, \`config/relay.json\` unless \`--config\` names another. Comments (\`//\`, \`/* */\`) and trailing commas
are allowed. \`\${NAME}\` in a string is replaced by the environment variable NAME (\`$\${NAME}\` is the text itself); a
string that is one variable and nothing else may stand for a number or true/false. \`include\` lists files that are
merged before this file's own keys. Unknown keys and bad values stop the start, all of them listed at once.

\`protorelay config check\` says without starting what a start would, and looks at the machine besides: certificates, files and
folders, names that have no address, addresses and ports that cannot be listened on, networks that make an open relay. It ends with
78 where there is an error, with 0 where there are warnings only. Run it as the user of the relay. \`--offline\` leaves out names and
listeners, for a config of another machine; \`--json\` prints the same in fields: \`severity\` (error, warning, note), \`file\`,
\`line\`, \`column\`, \`key\`, \`problem\`, and \`mend\`, what to write instead (null where the problem says so).

\`data_dir\` is relative to the folder of the config file; every other path is relative to \`data_dir\`.

*Live* keys change on SIGHUP; a change of the others is named in the log and takes a restart.
`;

/** The reference page. */
export function configurationPage(): string {
  const parts = [INTRODUCTION];
  /** live: all of it is one value that a reload replaces. */
  const queue: { schema: z.ZodType; name: string; live: boolean }[] = [
    { schema: configSchema, name: '', live: false },
  ];
  for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
    const rows: string[] = [];
    for (const [key, schema] of Object.entries(shapeOf(at.schema) ?? {})) {
      const name = at.name === '' ? key : `${at.name}.${key}`;
      const below = nested(schema);
      const live = at.live || isLive(schema);
      if (below !== null) queue.push({ schema: below.schema, name: name + below.suffix, live });
      if (shapeOf(schema) === null || schema.description !== undefined) rows.push(row(name, schema, live));
    }
    const title = at.name === '' ? 'Top level' : `\`${at.name}\``;
    parts.push(
      `## ${title}\n\n| Key | Default | Accepts | Live | Meaning |\n|---|---|---|---|---|\n${rows.join('\n')}\n`,
    );
  }
  return parts.join('\n');
}

/** The schema of what gets a table of its own: a section, the objects of a list, or those of a record. Else null. */
function nested(schema: z.ZodType): { schema: z.ZodType; suffix: string } | null {
  if (shapeOf(schema) !== null) return { schema, suffix: '' };
  const def = inner(schema).def as { element?: z.ZodType; valueType?: z.ZodType };
  if (def.element !== undefined && shapeOf(def.element) !== null)
    return { schema: def.element, suffix: '[]' };
  if (def.valueType !== undefined && shapeOf(def.valueType) !== null)
    return { schema: def.valueType, suffix: '.*' };
  return null;
}

function row(name: string, schema: z.ZodType, live: boolean): string {
  const text = schema.meta()?.default_text;
  const fallback = defaultOf(schema);
  const cells = [
    `\`${name}\``,
    text !== undefined ? String(text) : fallback === undefined ? '' : `\`${fallback}\``,
    accepts(schema),
    live ? 'yes' : '',
    schema.description ?? '',
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
