/**
 * Hadoop's real HDFS (its mini-cluster, two namenodes and two datanodes in one JVM), where Java and Maven can bring
 * it: the jars come by `mvn` into .toolchain/hdfs, once. Ends by its input or its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { run } from '../support/child.ts';
import { skipWithout } from '../support/programs.ts';
import { bounded } from '../support/relay-fixture.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FOLDER = join(import.meta.dirname, 'hdfs');
const CACHE = join(ROOT, '.toolchain/hdfs');
const CLASSPATH = join(CACHE, 'classpath');
const RESOLVE_MS = 180_000;
const START_MS = 90_000;

/** Jars of the mini-cluster on this machine, fetched when they are not; or the reason why they cannot be. */
export async function miniClusterClasspath(): Promise<{ classpath: string } | { skip: string }> {
  const missing = skipWithout('java', 'mvn');
  if (missing !== false) return { skip: missing };
  if (existsSync(CLASSPATH)) {
    const classpath = readFileSync(CLASSPATH, 'utf8');
    if (classpath.split(':').every((jar) => existsSync(jar))) return { classpath };
  }
  mkdirSync(CACHE, { recursive: true });
  const output = join(CACHE, `classpath.${process.pid}`);
  const { code, stdout } = await run(
    'mvn',
    [
      '--batch-mode',
      '--quiet',
      `-Dmaven.repo.local=${join(CACHE, 'repository')}`,
      `-Dmdep.outputFile=${output}`,
      '-f',
      join(FOLDER, 'pom.xml'),
      'dependency:build-classpath',
    ],
    { timeoutMs: RESOLVE_MS },
  );
  if (code !== 0 || !existsSync(output))
    return { skip: `Maven could not bring Hadoop's mini-cluster: ${stdout.split('\n')[0]?.slice(0, 200)}` };
  const classpath = readFileSync(output, 'utf8').trim();
  writeFileSync(CLASSPATH, classpath);
  rmSync(output);
  return { classpath };
}

export class HdfsCluster {
  endpoints: string[] = [];
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #answers: ((line: string) => void)[] = [];
  #stderr = '';

  private constructor(classpath: string) {
    this.#dir = mkdtempSync(join(tmpdir(), 'hdfs-'));
    // Jersey 1, as Hadoop has it, looks into java.lang.
    const opens = ['--add-opens', 'java.base/java.lang=ALL-UNNAMED'];
    const quick = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC'];
    const args = ['-Xmx640m', ...quick, ...opens, '-cp', classpath, join(FOLDER, 'MiniHdfs.java'), this.#dir];
    this.#child = spawn('java', args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-2000);
    });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => this.#answers.shift()?.(line));
    this.#child.on('error', (error) => this.#answers.shift()?.(`error ${error.message}`));
  }

  static async start(classpath: string): Promise<HdfsCluster> {
    const cluster = new HdfsCluster(classpath);
    try {
      const ready = await cluster.#answer(START_MS);
      cluster.endpoints = ready.map((port) => `http://127.0.0.1:${port}`);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  #answer(timeoutMs: number): Promise<string[]> {
    const line = new Promise<string>((settle) => this.#answers.push(settle));
    return bounded(line, timeoutMs, () => `no answer of the mini-cluster: ${this.#stderr}`).then((text) => {
      const [word, ...rest] = text.split(' ');
      if (word !== 'ok' && word !== 'ready') throw new Error(`mini-cluster: ${text}`);
      return rest;
    });
  }

  /** Asks the cluster itself, past everything that is tested: see MiniHdfs.java for the commands. */
  command(text: string): Promise<string[]> {
    const answer = this.#answer(30_000);
    this.#child.stdin?.write(`${text}\n`);
    return answer;
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((settle) => {
      if (this.#child.exitCode !== null || this.#child.pid === undefined) settle();
      this.#child.once('close', () => settle());
    });
    this.#child.stdin?.end();
    await bounded(ended, 15_000, () => 'the mini-cluster did not end').catch(() => {
      this.#child.kill('SIGKILL');
      return ended;
    });
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
