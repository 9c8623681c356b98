/**
 * The second step of CREATE. It uses node:http and not fetch: a datanode answers '100 Continue' to every PUT, whether
 * asked or not (RFC 9110 §15.2 allows that), and fetch breaks the connection off then.
 */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { nodeHttp, nodeHttps } from '../../base/node-http.ts';

const MAX_ANSWER_BYTES = 65_536;

export class Uploader {
  readonly #http = nodeHttp();
  readonly #https = nodeHttps();
  readonly #agent = new this.#http.Agent({ keepAlive: true });
  readonly #secureAgent = new this.#https.Agent({ keepAlive: true });

  /**
   * Sends the blocks as the body of a PUT, and returns status and text of the answer. Rejects with the network's error,
   * what the blocks throw, or the signal's reason.
   */
  async put(
    url: string,
    headers: Record<string, string>,
    blocks: Iterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<{ status: number; text: string }> {
    const isSecure = url.startsWith('https:');
    const request = (isSecure ? this.#https : this.#http).request(url, {
      method: 'PUT',
      headers,
      agent: isSecure ? this.#secureAgent : this.#agent,
      signal,
    });
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.once('error', reject);
    });
    try {
      // A refusal may come before everything is sent; then the refusal counts, not the error of the sending.
      const sending = pipeline(Readable.from(blocks, { objectMode: true, highWaterMark: 1 }), request);
      sending.catch(() => {});
      const response = await Promise.race([answer, sending.then(() => answer)]);
      let text = '';
      for await (const part of response) if (text.length < MAX_ANSWER_BYTES) text += String(part);
      return { status: response.statusCode ?? 0, text };
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      answer.catch(() => {}); // the error is thrown already
      if (!request.writableFinished) request.destroy();
    }
  }

  close(): void {
    this.#agent.destroy();
    this.#secureAgent.destroy();
  }
}
