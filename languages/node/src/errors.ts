/**
 * Errors of a call, by what the caller can do about it.
 *
 *     LossdError
 *     ├── InvalidArgument      fix the request: INVALID_ARGUMENT
 *     │   └── TooLarge         send less: RESOURCE_EXHAUSTED without RetryInfo
 *     ├── Overloaded           come back later: RESOURCE_EXHAUSTED with RetryInfo
 *     ├── Unavailable          repeat, here or elsewhere: UNAVAILABLE, CANCELLED
 *     ├── DeadlineExceeded     allow more time: DEADLINE_EXCEEDED
 *     ├── Unauthenticated      show who you are: UNAUTHENTICATED, PERMISSION_DENIED
 *     ├── NotServed            this server has no such thing: UNIMPLEMENTED
 *     └── InternalError        tell us: everything else
 */

import { status, type ServiceError } from "@grpc/grpc-js";
import { inspect } from "node:util";

import { type Any, BadRequest, ErrorInfo, RetryInfo, Status } from "./contract.js";

export interface ErrorDetails {
  readonly field?: string;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
  readonly onTheWay?: boolean;
  readonly cause?: unknown;
}

/** Base of all that a client raises about a call. */
export class LossdError extends Error {
  /** The option or tensor at fault, as the wire names it ("label_smoothing"), or "". */
  readonly field: string;
  /** UPPER_SNAKE, for programs. */
  readonly reason: string;
  /** Every variable of the sentence. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What the server asked to wait. */
  readonly retryAfterMs: number | undefined;
  /** No lossd server has said this: `reason` is the status's name then, and gRPC's own words are in `cause`. */
  readonly onTheWay: boolean;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.field = details.field ?? "";
    this.reason = details.reason ?? "";
    this.metadata = details.metadata ?? {};
    this.retryAfterMs = details.retryAfterMs;
    this.onTheWay = details.onTheWay ?? false;
  }

  /** Of the server's log, or "". */
  get requestId(): string {
    return this.metadata["request_id"] ?? "";
  }
}

/** The request is wrong and always will be: `field`, its value and the bound are named. */
export class InvalidArgument extends LossdError {}
/** The request or its answer is over a limit of the server's or of the client's. */
export class TooLarge extends InvalidArgument {}
/** The server is full for now: `retryAfterMs`. */
export class Overloaded extends LossdError {
  declare readonly retryAfterMs: number;
}
/** The server cannot be reached, or is going away. Repeating is safe, since losses are pure. */
export class Unavailable extends LossdError {}
/** The call's time ran out. */
export class DeadlineExceeded extends LossdError {}
/** The server wants an identity, or refuses the one it was given. */
export class Unauthenticated extends LossdError {}
/** This server does not have that loss or option. */
export class NotServed extends LossdError {}
/** A fault of the server's: `requestId` finds it in its log. */
export class InternalError extends LossdError {}

// The reason of what a closed client raises: never repeated.
export const CLIENT_CLOSED = "CLIENT_CLOSED";
// That of a stream that broke off without a status, and of one whose answers were not read in time.
export const STREAM_ENDED = "STREAM_ENDED";
const STREAM_NOT_READ = "STREAM_NOT_READ";

const CLASSES: Readonly<Record<number, typeof LossdError>> = {
  [status.INVALID_ARGUMENT]: InvalidArgument,
  [status.OUT_OF_RANGE]: InvalidArgument,
  [status.FAILED_PRECONDITION]: InvalidArgument,
  [status.NOT_FOUND]: InvalidArgument,
  [status.UNAVAILABLE]: Unavailable,
  [status.CANCELLED]: Unavailable,
  [status.DEADLINE_EXCEEDED]: DeadlineExceeded,
  [status.UNAUTHENTICATED]: Unauthenticated,
  [status.PERMISSION_DENIED]: Unauthenticated,
  [status.UNIMPLEMENTED]: NotServed,
};

// What a status means that no lossd server has explained.
const ON_THE_WAY: Readonly<Record<number, string>> = {
  [status.UNAVAILABLE]: "the server cannot be reached, or the connection to it was lost",
  [status.CANCELLED]: "the call was cancelled before its answer",
  [status.DEADLINE_EXCEEDED]: "no answer within the deadline",
  [status.RESOURCE_EXHAUSTED]: "a limit was exceeded on the way, most likely that of a message's size",
  [status.UNIMPLEMENTED]: "no such method is served: is it a lossd server of this version?",
  [status.UNAUTHENTICATED]: "the caller's identity is missing or was not accepted",
  [status.PERMISSION_DENIED]: "the caller is not permitted to do this",
};

// What a caller has to give whom the server does not know: beside its own sentence.
const TO_GIVE: Readonly<Record<string, string>> = {
  NO_CREDENTIALS: "give token or tokenFile (or LOSSD_TOKEN, LOSSD_TOKEN_FILE), or cert and key",
  UNKNOWN_TOKEN: "does token or tokenFile (or LOSSD_TOKEN, LOSSD_TOKEN_FILE) hold what `lossd token` printed for it?",
};

function errorClass(code: number, retryAfterMs: number | undefined): typeof LossdError {
  if (code === status.RESOURCE_EXHAUSTED) return retryAfterMs === undefined ? TooLarge : Overloaded;
  return CLASSES[code] ?? InternalError;
}

/** The error for a status and its google.rpc details: a call's, or those of a stream's Failure. */
export function fromStatus(code: number, message: string, details: readonly Any[]): LossdError {
  let info: ErrorInfo | undefined;
  let field = "";
  let retryAfterMs: number | undefined;
  for (const { typeUrl, value } of details) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) {
      info = ErrorInfo.decode(value);
    } else if (typeUrl.endsWith("/google.rpc.BadRequest")) {
      field = BadRequest.decode(value).fieldViolations[0]?.field ?? "";
    } else if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const delay = RetryInfo.decode(value).retryDelay;
      retryAfterMs = delay === undefined ? 0 : delay.seconds * 1e3 + delay.nanos / 1e6;
    }
  }
  const reason = info?.reason ?? "";
  // Whoever does not read in time is let go, and may ask again.
  const kind = reason === STREAM_NOT_READ ? Unavailable : errorClass(code, retryAfterMs);
  const told = TO_GIVE[reason];
  return new kind(told === undefined ? message : `${message}; ${told}`, { field, reason, metadata: info?.metadata ?? {}, retryAfterMs });
}

/**
 * The error for a call that failed: the server's words lie in the trailing metadata.
 *
 * A status without them was made on the way, not by a lossd server: the sentence says what the code means.
 */
export function fromCall(error: ServiceError, address: string): LossdError {
  try {
    const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
    if (bytes instanceof Uint8Array) {
      const { details } = Status.decode(bytes);
      if (details.length > 0) return fromStatus(error.code, error.details, details);
    }
  } catch {
    // Details that nobody can read are as good as none.
  }
  const meaning = ON_THE_WAY[error.code] ?? `the call failed, with status ${status[error.code]}`;
  return new (errorClass(error.code, undefined))(`${address}: ${meaning}`, {
    reason: status[error.code] ?? String(error.code),
    onTheWay: true,
    cause: error,
  });
}

/** The value as a sentence shows it: in one line of at most 80 characters. */
export function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : inspect(value, { depth: 0, breakLength: Infinity });
  return text.length <= 80 ? text : `${text.slice(0, 79)}…`;
}

/** The end of a sentence that names the one of `known` that is nearest to `value`, if any is near. */
export function didYouMean(value: unknown, known: Iterable<string>): string {
  if (typeof value !== "string" || value.length > 40) return "";
  const near = [...known]
    .map((name) => [distance(value.toLowerCase(), name.toLowerCase()), name] as const)
    .filter(([edits, name]) => edits <= Math.max(value.length, name.length) / 3)
    .sort(([a], [b]) => a - b)[0];
  return near === undefined ? "" : `; did you mean ${JSON.stringify(near[1])}?`;
}

/** The edits between two texts, underscores apart: letters put in, left out, or replaced. */
function distance(a: string, b: string): number {
  const [from, to] = [a.replaceAll("_", ""), b.replaceAll("_", "")];
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}
