/** Many evaluations on one stream: their results in the items' order, a bounded number of them under way. */

import type { Connection } from "./connection.js";
import { LossdError } from "./errors.js";
import { Evaluation } from "./evaluation.js";
import type { CallOptions, MapOptions, Result, Verb } from "./options.js";
import { checkedTransport, isSmall, type Limits, limitsOf, plan } from "./plan.js";
import { build, type Call, CALL_OPTIONS, entries, message, METHODS, refused, unknownValue } from "./request.js";
import { Retry } from "./retry.js";
import { Session } from "./session.js";
import type { Tensor } from "./tensor.js";

const WINDOW = 1024;
// Bytes of the items under way, one of them excepted: memory is bounded whatever an item weighs.
const WINDOW_BYTES = 64 << 20;

type Items = Iterable<unknown> | AsyncIterable<unknown>;

/** What `map` was asked for, checked. shared: the options of every item. */
export interface Mapping {
  readonly verb: Verb;
  readonly items: Items;
  readonly shared: object;
  readonly yields: boolean;
  readonly window: number;
  readonly transport: string;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

/** The arguments of `map`, or InvalidArgument. */
export function checkedMapping(verb: Verb, items: Items, options: (MapOptions & CallOptions) | undefined): Mapping {
  if (!Object.hasOwn(METHODS, verb)) throw unknownValue("verb", verb, Object.keys(METHODS));
  const given: MapOptions & CallOptions = Object.fromEntries(entries(options));
  const { errors = "raise", window = WINDOW, signal, timeoutMs, transport, ...shared } = given;
  if (errors !== "raise" && errors !== "yield") throw unknownValue("errors", errors, ["raise", "yield"]);
  if (!Number.isSafeInteger(window) || window < 1) {
    throw refused("window", window, "must be a whole number from 1 on, not", "OPTION_OUT_OF_RANGE");
  }
  const from = items as Partial<AsyncIterable<unknown> & Iterable<unknown>> | undefined;
  if (typeof from?.[Symbol.asyncIterator] !== "function" && typeof from?.[Symbol.iterator] !== "function") {
    throw refused("items", items, "must be an iterable, not", "WRONG_TYPE");
  }
  return {
    verb,
    items,
    shared,
    yields: errors === "yield",
    window,
    transport: checkedTransport(transport),
    signal,
    timeoutMs,
  };
}

export async function* mapped(
  connection: Connection,
  mapping: Mapping,
  timeoutMs: number,
  blockBytes: number,
): AsyncGenerator<Result | Tensor | LossdError> {
  const { verb, items, yields, window, signal } = mapping;
  const retry = new Retry(timeoutMs, false);
  const limits = limitsOf(await connection.info(retry, signal), connection.settings.maxResponseBytes, blockBytes);
  const session = new Session(connection, retry, signal);
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const waiting: (Evaluation | LossdError)[] = []; // in order; an error is an item that cannot be sent
  let bytes = 0;
  let isReading = false;
  let isExhausted = false;
  let failure: { readonly error: unknown } | undefined;

  const fail = (error: unknown): void => {
    isExhausted = true;
    failure = { error };
  };
  const take = (next: IteratorResult<unknown>): void => {
    if (next.done === true) {
      isExhausted = true;
      return;
    }
    const one = evaluation(mapping, next.value, limits);
    waiting.push(one);
    if (one instanceof LossdError) return;
    bytes += one.size;
    session.add(one);
  };
  const readAhead = (): void => {
    while (!isExhausted && !isReading && waiting.length < window && bytes < WINDOW_BYTES) {
      try {
        const next = iterator.next();
        if (!(next instanceof Promise)) {
          take(next);
          continue;
        }
        isReading = true;
        void next
          .then(take)
          .catch(fail)
          .finally(() => {
            isReading = false;
            session.notify();
          });
      } catch (error) {
        fail(error);
      }
    }
  };

  try {
    for (;;) {
      readAhead();
      const first = waiting[0];
      if (first === undefined && isExhausted) {
        if (failure !== undefined) throw failure.error;
        return;
      }
      const outcome = first instanceof LossdError ? first : first?.outcome;
      if (outcome === undefined) {
        await session.changed();
        continue;
      }
      waiting.shift();
      if (first instanceof Evaluation) bytes -= first.size;
      if (outcome instanceof LossdError && !yields) throw outcome;
      yield outcome instanceof LossdError || METHODS[verb].activation === undefined
        ? outcome
        : (outcome.loss as unknown as Tensor);
    }
  } finally {
    session.end();
    if (!isExhausted) {
      const returned = Promise.resolve(iterator.return?.());
      if (isReading)
        returned.catch(() => undefined); // it may never come
      else await returned;
    }
  }
}

/** An item on its way, its numbers taken: the caller may change its arrays from now on. */
function evaluation({ verb, shared, transport }: Mapping, item: unknown, limits: Limits): Evaluation | LossdError {
  try {
    const call = called(verb, item, shared);
    const cut = isSmall(call, transport, limits.maxResponseBytes) ? undefined : plan(call, transport, limits);
    if (cut === undefined) return new Evaluation(call, undefined, call.method.request.encode(message(call)));
    const operands = new Map(
      [...call.operands].map(([name, one]) => [name, { ...one, bytes: Uint8Array.from(one.bytes) }]),
    );
    return new Evaluation({ ...call, operands }, cut, undefined);
  } catch (error) {
    if (error instanceof LossdError) return error;
    throw error;
  }
}

/** The call of an item: its tensors in order, or by name with options of its own; or its only tensor. */
function called(verb: Verb, item: unknown, shared: object): Call {
  const { tensors } = METHODS[verb];
  if (Array.isArray(item)) return build(verb, item, shared);
  if (ArrayBuffer.isView(item) || (typeof item === "object" && item !== null && "data" in item))
    return build(verb, [item], shared);
  const named = Object.fromEntries(entries(item));
  const operands = tensors.map((name) => named[name]);
  const own = Object.entries(named).filter(([name]) => !tensors.includes(name));
  for (const [name, value] of own) {
    if (CALL_OPTIONS.includes(name))
      throw refused(name, value, "is an option of map, not of an item:", "OPTION_NOT_TAKEN");
  }
  return build(verb, operands, { ...shared, ...Object.fromEntries(own) });
}
