/**
 * Node's HTTP client, loaded when it is needed. An import asks for every export, WebSocket and its fetch among them: that
 * was a quarter of a relay's start, in each thread again.
 */
export const nodeHttp = (): typeof import('node:http') => process.getBuiltinModule('node:http');
export const nodeHttps = (): typeof import('node:https') => process.getBuiltinModule('node:https');
