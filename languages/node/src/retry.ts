/**
 * Retry policy of one call. Losses are pure, so repeating is always safe: UNAVAILABLE is repeated, and
 * RESOURCE_EXHAUSTED where the server says when to come back, until the deadline.
 */

import { CLIENT_CLOSED, type LossdError, Overloaded, Unavailable } from "./errors.js";
import { refused } from "./request.js";

// The first wait, its growth and its end. 2 s: a server that restarts takes about that long.
const FIRST_MS = 50;
const GROWTH = 2;
const LONGEST_MS = 2_000;
// Each wait is drawn from ±20 %, so that clients that failed together do not come back together.
const JITTER = 0.2;
// What Node's timers can wait for: 24 days.
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

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
  #waits = 0;

  constructor(
    readonly timeoutMs: number,
    readonly bounded: boolean,
  ) {
    this.#endMs = performance.now() + timeoutMs;
  }

  /** Milliseconds that the next attempt has. */
  remainingMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }

  /** New ground was covered: the time for repeating begins anew, unless the whole call is bounded. */
  extend(): void {
    if (this.bounded) return;
    this.#endMs = performance.now() + this.timeoutMs;
    this.#waits = 0;
  }

  /** Milliseconds before the next attempt; raises `error` where there is none. */
  waitMs(error: LossdError): number {
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

/** What `work` gives, undefined after `ms` milliseconds; rejects with the signal's reason where that is aborted first. */
export function within<T>(work: Promise<T>, ms: number, signal?: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = (): void => end(() => reject(signal!.reason as Error));
    const timer = setTimeout(() => end(() => resolve(undefined)), ms);
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      settle();
    };
    signal?.addEventListener("abort", stop, { once: true });
    work.then(
      (value) => end(() => resolve(value)),
      (error: unknown) => end(() => reject(error as Error)),
    );
  });
}

/** Resolves after `ms` milliseconds. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await within(new Promise<never>(() => undefined), ms, signal);
}
