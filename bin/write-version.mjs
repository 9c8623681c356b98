// Writes build/version.json, what `protorelay --version` says. Called by build.sh: CONFIGURATION COMMIT FILE.
// Loads the compiled addon, so that an addon that cannot be loaded is found at build time.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [configuration, commit, file] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const addon = require(resolve('build', configuration, 'protorelay.node'));
const { compiler, sanitizer } = addon.buildInfo();
const builtAt = `${new Date().toISOString().slice(0, 19)}Z`;
writeFileSync(file, `${JSON.stringify({ commit, builtAt, configuration, compiler, sanitizer }, null, 2)}\n`);
