/**
 * Retry policy of one call. Losses are pure, so repeating is always safe: UNAVAILABLE is repeated, and
 * RESOURCE_EXHAUSTED where the server says when to come back, until the deadline.
 */

import { CLIENT_CLOSED, DeadlineExceeded, type LossdError, Overloaded, Unavailable } from "./errors.js";
import { refused } from "./request.js";

// The first wait, its growth and its end. 2 s: a server that restarts takes about that long.
const FIRST_MS = 50;
const GROWTH = 2;
const LONGEST_MS = 2_000;
// Each wait is drawn from ±20 %, so that clients that failed together do not come back together.
const JITTER = 0.2;
// What Node's timers can wait for: 24 days.
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Of a client: whether a server has ever answered it, and how long the first answer may take. */
export interface Lifetime {
  readonly connectTimeoutMs: number;
  reached: boolean;
}

/** The option as milliseconds, or InvalidArgument. */
export function checkedMs(option: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0 && value < Infinity)) {
    throw refused(option, value, "must be a positive, finite number of milliseconds, not", "OPTION_OUT_OF_RANGE");
  }
  return Math.min(value, LONGEST_TIMEOUT_MS);
}

/** The attempts of one call: `timeoutMs` from now on, or, not `bounded`, from its last progress. */
export class Retry {
  #endMs: number;
  readonly #connectEndMs: number;
  #connecting = false;
  #waits = 0;

  constructor(
    readonly timeoutMs: number,
    readonly lifetime: Lifetime,
    readonly bounded: boolean,
    readonly now: () => number = () => performance.now(),
  ) {
    this.#endMs = now() + timeoutMs;
    this.#connectEndMs = now() + lifetime.connectTimeoutMs;
  }

  /** Milliseconds that the next attempt has. */
  remainingMs(): number {
    this.#connecting = !this.lifetime.reached && this.#connectEndMs < this.#endMs;
    return Math.max(0, (this.#connecting ? this.#connectEndMs : this.#endMs) - this.now());
  }

  /** New ground was covered: the time for repeating begins anew, unless the whole call is bounded. */
  extend(): void {
    if (this.bounded) return;
    this.#endMs = this.now() + this.timeoutMs;
    this.#waits = 0;
  }

  /** Milliseconds before the next attempt; raises `error` where there is none. */
  waitMs(error: LossdError): number {
    // The attempt had the time for connecting only, and the server turned out to be there.
    if (this.#connecting && this.lifetime.reached && error instanceof DeadlineExceeded && error.onTheWay) return 0;
    const wait = this.waitAfter(error, this.#waits);
    if (wait === undefined) throw error;
    this.#waits++;
    return wait;
  }

  /** The same of an evaluation that failed `failures` times before, beside others; undefined where there is none. */
  waitAfter(error: LossdError, failures: number): number | undefined {
    if (!(error instanceof Unavailable || error instanceof Overloaded) || error.reason === CLIENT_CLOSED)
      return undefined;
    const longer = Math.min(FIRST_MS * GROWTH ** Math.min(failures, 64), LONGEST_MS);
    const wait = Math.max(longer, error.retryAfterMs ?? 0) * (1 - JITTER + 2 * JITTER * Math.random());
    return wait < this.remainingMs() ? wait : undefined;
  }
}

/** Resolves after `ms` milliseconds; rejects with the signal's reason where that is aborted first. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
