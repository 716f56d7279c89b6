/** Token: what calls show of their caller. One in a file is read for each call, so that it may be replaced. */

import { closeSync, openSync, readSync } from "node:fs";

import type { Identity } from "./address.js";
import { InvalidArgument, shown } from "./errors.js";

// RFC 6750, 2.1, without a bound; what else a header would take is no token that anybody makes.
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;
// More is no token: a header would not take it.
const MOST_BYTES = 16_384;

/** `authorization` of a call that begins now, if there is any. InvalidArgument where the file has no token. */
export function authorization({ token, tokenFile }: Identity): () => string | undefined {
  if (tokenFile === undefined) return () => (token === undefined ? undefined : `Bearer ${token}`);
  let last = contentOf(tokenFile);
  return () => {
    try {
      last = contentOf(tokenFile);
    } catch {
      // It was read before: whoever replaces the file may leave it empty, or away, for a moment.
    }
    return `Bearer ${last}`;
  };
}

/** The token in the file. To ask whether that has changed would be wrong where it does twice within the clock's tick. */
function contentOf(path: string): string {
  const content = Buffer.alloc(MOST_BYTES + 1);
  let length: number;
  try {
    const file = openSync(path, "r");
    try {
      length = readSync(file, content);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw refused(path, `cannot be read: ${(error as Error).message}`);
  }
  const token = content.toString("latin1", 0, length).trim();
  if (token === "") throw refused(path, "is empty");
  if (length > MOST_BYTES || !TOKEN.test(token)) throw refused(path, "holds something else than one token");
  return token;
}

function refused(path: string, what: string): InvalidArgument {
  return new InvalidArgument(`tokenFile = ${shown(path)} ${what}`, { field: "token_file", reason: "UNREADABLE_FILE" });
}
