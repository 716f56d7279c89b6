/** The client: a method for each loss, whatever its size. */

import { endianness } from "node:os";

import { checkedAddress, type Identity, withEnvironment } from "./address.js";
import { Connection, read } from "./connection.js";
import { didYouMean, InvalidArgument, LossdError, shown } from "./errors.js";
import { Evaluation } from "./evaluation.js";
import { checkedMapping, mapped } from "./map.js";
import type {
  Activation,
  CallOptions,
  ElementOptions,
  Gradients,
  Item,
  Mapped,
  MapOptions,
  Only,
  Options,
  Reduction,
  Result,
  SoftmaxOptions,
  Verb,
} from "./options.js";
import { BLOCK_BYTES, checkedTransport, isSmall, limitsOf, plan } from "./plan.js";
import { build, entries, message, refused } from "./request.js";
import { checkedMs, Retry } from "./retry.js";
import { fromResponse } from "./result.js";
import { type ServerInfo, serverInfo } from "./server-info.js";
import { Session } from "./session.js";
import type { Tensor, TensorLike, TypedArray } from "./tensor.js";

const DEFAULT_SERVER = "127.0.0.1:50051";
const LARGEST_BYTES = 2 ** 31 - 1;

export interface ClientOptions extends Identity {
  /** Milliseconds of a call that names none; of one that streams, without progress. 60,000 by default. */
  timeoutMs?: number | undefined;
  /** Milliseconds for the first answer of all; 5,000 by default. Afterwards a lost server is looked for until the deadline. */
  connectTimeoutMs?: number | undefined;
  /** The largest message that the server may send; 2 GiB by default. What does not fit comes in blocks. */
  maxResponseBytes?: number | undefined;
  /** About what a block of a stream has; 1.25 MiB by default. */
  blockBytes?: number | undefined;
}
const CLIENT_OPTIONS = [
  "timeoutMs",
  "connectTimeoutMs",
  "maxResponseBytes",
  "blockBytes",
  "tls",
  "ca",
  "cert",
  "key",
  "token",
  "tokenFile",
];

export class Client {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #blockBytes: number;

  /** address: LOSSD_SERVER, or 127.0.0.1:50051, where there is none. Connects at the first call. */
  constructor(address?: string, options?: ClientOptions) {
    if (endianness() !== "LE") {
      throw new LossdError(
        "this host is big-endian, and lossd's tensors are little-endian: this client does not convert them",
      );
    }
    for (const [name] of entries(options)) {
      if (!CLIENT_OPTIONS.includes(name)) {
        throw new InvalidArgument(`Client has no option ${shown(name)}${didYouMean(name, CLIENT_OPTIONS)}`, {
          field: name,
          reason: "UNKNOWN_OPTION",
        });
      }
    }
    const {
      timeoutMs = 60_000,
      connectTimeoutMs = 5_000,
      maxResponseBytes = LARGEST_BYTES,
      blockBytes = BLOCK_BYTES,
      ...identity
    } = options ?? {};
    this.#timeoutMs = checkedMs("timeoutMs", timeoutMs);
    this.#blockBytes = checkedBytes("blockBytes", blockBytes);
    const where = checkedAddress(address ?? (process.env["LOSSD_SERVER"] || DEFAULT_SERVER));
    this.#connection = new Connection(where, {
      ...withEnvironment(where, identity),
      connectTimeoutMs: checkedMs("connectTimeoutMs", connectTimeoutMs),
      maxResponseBytes: checkedBytes("maxResponseBytes", maxResponseBytes),
    });
  }

  /** Shannon entropy of every row: H = −Σ p·log p. */
  entropy<A extends TypedArray, const R extends Reduction = "mean", const G extends Gradients = false>(
    input: TensorLike<A>,
    options?: Options<R, G>["entropy"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("entropy", [input], options) as Promise<Result<R, G, A>>;
  }

  /** −log softmax(x)[y] of every row: logits (N, C, …), and class indices (N, …) or distributions (N, C, …). */
  crossEntropy<A extends TypedArray, const R extends Reduction = "mean", const G extends Gradients = false>(
    input: TensorLike<A>,
    target: TensorLike,
    options?: Options<R, G>["crossEntropy"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("crossEntropy", [input, target], options) as Promise<Result<R, G, A>>;
  }

  /** −[t·ln p + (1−t)·ln(1−p)] of every element: probabilities, and a target of their shape. */
  bce<A extends TypedArray, const R extends Reduction = "mean", const G extends Gradients = false>(
    input: TensorLike<A>,
    target: TensorLike,
    options?: Options<R, G>["bce"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("bce", [input, target], options) as Promise<Result<R, G, A>>;
  }

  /** The same from logits. */
  bceWithLogits<A extends TypedArray, const R extends Reduction = "mean", const G extends Gradients = false>(
    input: TensorLike<A>,
    target: TensorLike,
    options?: Options<R, G>["bceWithLogits"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("bceWithLogits", [input, target], options) as Promise<Result<R, G, A>>;
  }

  /** p·(ln p − ln q) of every element: ln q is the input, p the target. */
  klDivergence<
    A extends TypedArray,
    const R extends Reduction | "batchmean" = "mean",
    const G extends Gradients = false,
  >(input: TensorLike<A>, target: TensorLike, options?: Options<R, G>["klDivergence"]): Promise<Result<R, G, A>> {
    return this.#evaluate("klDivergence", [input, target], options) as Promise<Result<R, G, A>>;
  }

  /** −u[y] of every row: log-probabilities (N, C, …), and class indices (N, …). */
  nll<A extends TypedArray, const R extends Reduction = "mean", const G extends Gradients = false>(
    input: TensorLike<A>,
    target: TensorLike,
    options?: Options<R, G>["nll"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("nll", [input, target], options) as Promise<Result<R, G, A>>;
  }

  /** −log p of every element; not reduced by default. */
  selfInformation<A extends TypedArray, const R extends Reduction = "none", const G extends Gradients = false>(
    input: TensorLike<A>,
    options?: Options<R, G>["selfInformation"],
  ): Promise<Result<R, G, A>> {
    return this.#evaluate("selfInformation", [input], options) as Promise<Result<R, G, A>>;
  }

  /** exp x / Σ exp x along the class dimension; of the input's shape and dtype, as all activations. */
  softmax<A extends TypedArray>(input: TensorLike<A>, options?: SoftmaxOptions): Promise<Tensor<A>> {
    return this.#activate("softmax", input, options);
  }

  /** ln softmax. */
  logSoftmax<A extends TypedArray>(input: TensorLike<A>, options?: SoftmaxOptions): Promise<Tensor<A>> {
    return this.#activate("logSoftmax", input, options);
  }

  /** 1 / (1 + exp(−x)). */
  sigmoid<A extends TypedArray>(input: TensorLike<A>, options?: ElementOptions): Promise<Tensor<A>> {
    return this.#activate("sigmoid", input, options);
  }

  /** ln sigmoid. */
  logSigmoid<A extends TypedArray>(input: TensorLike<A>, options?: ElementOptions): Promise<Tensor<A>> {
    return this.#activate("logSigmoid", input, options);
  }

  /**
   * The results of many evaluations, in their order, over one stream. Items are read as their turn comes, at most
   * `window` of them, and 64 MiB, ahead; their arrays may be changed once the next one is read. Leaving the loop
   * cancels what is under way.
   */
  map<V extends Verb, const O extends Options[V] & MapOptions = {}>(
    verb: V,
    items: Iterable<Item<V>> | AsyncIterable<Item<V>>,
    options?: Only<O, keyof Options[V] | keyof MapOptions>,
  ): AsyncGenerator<Mapped<V, O>, void, undefined> {
    const mapping = checkedMapping(verb, items, options);
    const timeoutMs = checkedMs("timeoutMs", mapping.timeoutMs ?? this.#timeoutMs);
    return mapped(this.#connection, mapping, timeoutMs, this.#blockBytes) as AsyncGenerator<
      Mapped<V, O>,
      void,
      undefined
    >;
  }

  /** What the server says of itself: its version, device, limits and statistics. */
  async serverInfo(options: Pick<CallOptions, "signal" | "timeoutMs"> = {}): Promise<ServerInfo> {
    const retry = new Retry(checkedMs("timeoutMs", options.timeoutMs ?? this.#timeoutMs), true);
    return serverInfo(await this.#connection.freshInfo(retry, options.signal));
  }

  /** Ends its calls and its connection. A second time does nothing. */
  close(): void {
    this.#connection.close();
  }

  async #activate<A extends TypedArray>(
    verb: Activation,
    input: TensorLike<A>,
    options: SoftmaxOptions | undefined,
  ): Promise<Tensor<A>> {
    return (await this.#evaluate(verb, [input], options)).loss as unknown as Tensor<A>;
  }

  async #evaluate(verb: Verb, operands: readonly unknown[], options: CallOptions | undefined): Promise<Result> {
    const startMs = performance.now();
    const call = build(verb, operands, options);
    const transport = checkedTransport(options?.transport);
    const timeoutMs = checkedMs("timeoutMs", options?.timeoutMs ?? this.#timeoutMs);
    const signal = options?.signal;
    const retry = new Retry(timeoutMs, true);
    const { maxResponseBytes } = this.#connection.settings;
    if (!isSmall(call, transport, maxResponseBytes)) {
      const cut = plan(
        call,
        transport,
        limitsOf(await this.#connection.info(retry, signal), maxResponseBytes, this.#blockBytes),
      );
      if (cut !== undefined) {
        const isWhole = options?.timeoutMs !== undefined;
        return this.#streamed(
          new Evaluation(call, cut, undefined),
          isWhole ? retry : new Retry(timeoutMs, false),
          signal,
        );
      }
    }
    await this.#connection.reached(retry, signal); // a burst is written once there is somebody who reads it
    const body = call.method.request.encode(message(call));
    const answer = await this.#connection.ask(call.method.rpc, body, retry, signal);
    return fromResponse(call, read(call.method.response, answer), performance.now() - startMs);
  }

  async #streamed(evaluation: Evaluation, retry: Retry, signal: AbortSignal | undefined): Promise<Result> {
    const session = new Session(this.#connection, retry, signal);
    try {
      session.add(evaluation);
      while (evaluation.outcome === undefined) await session.changed();
    } finally {
      session.end();
    }
    if (evaluation.outcome instanceof LossdError) throw evaluation.outcome;
    return evaluation.outcome;
  }
}

function checkedBytes(option: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > LARGEST_BYTES) {
    throw refused(option, value, `must be a whole number from 1 to ${LARGEST_BYTES}, not`, "OPTION_OUT_OF_RANGE");
  }
  return value;
}
