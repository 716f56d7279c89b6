/**
 * Session: evaluations on one Stream call. Whole ones share messages, a large one goes in blocks; answers are read while
 * blocks are written. What was refused is sent again in its time; where the call breaks, what is unanswered goes anew.
 */

import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";

import { type Connection, read } from "./connection.js";
import { type EvaluationResult, type Failure, type Open, StreamRequest, StreamResponse } from "./contract.js";
import { DeadlineExceeded, fromStatus, InternalError, LossdError, STREAM_ENDED, Unavailable } from "./errors.js";
import { blockMessages, type Evaluation } from "./evaluation.js";
import type { Result } from "./options.js";
import type { Plan } from "./plan.js";
import { Assembly, fromResponse } from "./result.js";
import type { Retry } from "./retry.js";
import type { Init } from "./wire.js";

// Evaluations that share a message, and their bytes.
const MOST_TOGETHER = 128;
const MOST_TOGETHER_BYTES = 1 << 19;
// Messages that gRPC holds for the wire: with two, one is made while another leaves.
const MOST_WRITING = 2;

export class Session {
  readonly #unanswered = new Set<Evaluation>();
  #outbox: Evaluation[] = [];
  #open = new Map<number, Evaluation>();
  #blocks: Iterator<Buffer> | undefined;
  #blocksId = 0;
  #nextId = 1;
  #stream: ClientDuplexStream<Buffer, Buffer> | undefined;
  #writing = 0;
  #scheduled = false;
  #paused = false;
  #sent = 0;
  #furthest = 0;
  #lastMs = performance.now();
  #failure: unknown;
  #news = false;
  #wake: (() => void) | undefined;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #stop = (): void => this.#fail(this.signal!.reason);

  /** retry: the time for all of it, or, where it is not bounded, without progress. */
  constructor(
    readonly connection: Connection,
    readonly retry: Retry,
    readonly signal: AbortSignal | undefined,
  ) {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", this.#stop, { once: true });
  }

  /** Sends it, after those before it. */
  add(evaluation: Evaluation): void {
    this.#unanswered.add(evaluation);
    this.#outbox.push(evaluation);
    this.#send();
  }

  /** Whether `changed` would resolve at once. */
  get hasNews(): boolean {
    return this.#news || this.#failure !== undefined;
  }

  /** Resolves once an evaluation has ended, or `notify` was called; rejects where the stream is broken and stays so. */
  async changed(): Promise<void> {
    const sinceMs = performance.now();
    while (!this.hasNews) {
      const idleMs = performance.now() - Math.max(sinceMs, this.#lastMs);
      const leftMs = this.retry.bounded ? this.retry.remainingMs() : this.retry.timeoutMs - idleMs;
      const isWaiting = this.#unanswered.size > 0; // else for whoever adds the next
      if (isWaiting && leftMs <= 0) throw this.#outOfTime();
      await new Promise<void>((resolve) => {
        const timer = isWaiting ? setTimeout(resolve, leftMs) : undefined;
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#news = false;
    if (this.#failure !== undefined) throw this.#failure;
  }

  notify(): void {
    this.#news = true;
    this.#wake?.();
  }

  /** Ends the call: gracefully where all is answered. */
  end(): void {
    this.signal?.removeEventListener("abort", this.#stop);
    this.#quiet();
    const stream = this.#stream;
    this.#stream = undefined;
    if (this.#unanswered.size === 0) stream?.end();
    else stream?.cancel();
    this.#unanswered.clear();
  }

  #outOfTime(): DeadlineExceeded {
    if (this.retry.bounded)
      return new DeadlineExceeded("no answer within the deadline", { reason: "DEADLINE_EXCEEDED" });
    const seconds = String(this.retry.timeoutMs / 1000);
    return new DeadlineExceeded(`the stream stood still for ${seconds} s`, {
      reason: "NO_PROGRESS",
      metadata: { idle_s: seconds },
    });
  }

  #fail(failure: unknown): void {
    this.#quiet();
    this.#failure = failure;
    this.notify();
  }

  /** Sends nothing, until it is resumed. */
  #quiet(): void {
    this.#paused = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #later(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  // What is added in one turn of the event loop shares messages.
  #send(): void {
    if (this.#scheduled || this.#paused) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#paused) return;
      try {
        this.#stream ??= this.#opened();
        this.#pump(this.#stream);
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #opened(): ClientDuplexStream<Buffer, Buffer> {
    const stream = this.connection.stream(this.retry.bounded ? this.retry.remainingMs() : undefined);
    const isCurrent = (): boolean => stream === this.#stream;
    stream.on("data", (body: Buffer) => {
      if (isCurrent()) this.#receive(body);
    });
    stream.on("error", (error: ServiceError) => {
      if (isCurrent()) this.#broke(this.connection.explain(error));
    });
    stream.on("end", () => {
      if (isCurrent()) this.#broke(new Unavailable("the stream ended before its answers", { reason: STREAM_ENDED }));
    });
    return stream;
  }

  #pump(stream: ClientDuplexStream<Buffer, Buffer>): void {
    while (stream === this.#stream && this.#writing < MOST_WRITING) {
      const next = this.#nextMessage();
      if (next === undefined) return;
      this.#writing++;
      this.#sent++;
      stream.write(next, () => {
        if (stream !== this.#stream) return;
        this.#writing--;
        this.#lastMs = performance.now();
        this.#pump(stream);
      });
    }
  }

  #nextMessage(): Buffer | undefined {
    if (this.#blocks !== undefined) {
      // An evaluation that failed is sent no further.
      const next = this.#open.has(this.#blocksId) ? this.#blocks.next() : undefined;
      if (next?.done === false) return next.value;
      this.#blocks = undefined;
    }
    const first = this.#outbox[0];
    if (first === undefined) return undefined;
    return first.plan === undefined ? this.#opens() : this.#firstBlock(first, first.plan);
  }

  /** Whole evaluations that are there by now. */
  #opens(): Buffer {
    const opens: Init<Open>[] = [];
    let size = 0;
    while (opens.length < MOST_TOGETHER) {
      const evaluation = this.#outbox[opens.length];
      if (evaluation?.body === undefined) break;
      size += evaluation.body.length;
      if (opens.length > 0 && size > MOST_TOGETHER_BYTES) break;
      this.#open.set(this.#nextId, evaluation);
      opens.push({ evaluationId: this.#nextId++, [evaluation.call.method.field]: evaluation.body });
    }
    this.#outbox = this.#outbox.slice(opens.length);
    return StreamRequest.encode({ opens: { opens } });
  }

  #firstBlock(evaluation: Evaluation, plan: Plan): Buffer {
    this.#outbox.shift();
    evaluation.assembly = new Assembly(evaluation.call, plan);
    this.#blocksId = this.#nextId++;
    this.#open.set(this.#blocksId, evaluation);
    this.#blocks = blockMessages(evaluation.call, plan, this.#blocksId);
    return this.#blocks.next().value as Buffer;
  }

  #receive(body: Buffer): void {
    this.#lastMs = performance.now();
    try {
      const answer = read(StreamResponse, body);
      if (answer.block !== undefined) this.#open.get(answer.block.evaluationId)?.assembly?.take(answer.block);
      else if (answer.result !== undefined) this.#ended(answer.result);
      else if (answer.failure !== undefined) this.#failed(answer.failure.evaluationId, answer.failure);
      else for (const result of answer.results?.results ?? []) this.#ended(result);
    } catch (error) {
      this.#broke(error instanceof LossdError ? error : new InternalError(String(error), { cause: error }));
    }
  }

  #ended(result: EvaluationResult): void {
    const { evaluationId, failure } = result;
    if (failure !== undefined) return this.#failed(evaluationId, failure);
    const evaluation = this.#open.get(evaluationId);
    if (evaluation === undefined) return;
    const { call, assembly } = evaluation;
    const response = result[call.method.field as "crossEntropy"];
    if (response === undefined)
      throw new InternalError("the answer is of another loss", { reason: "MALFORMED_ANSWER" });
    const totalMs = performance.now() - evaluation.startMs;
    this.#settle(
      evaluationId,
      evaluation,
      assembly?.result(response, totalMs) ?? fromResponse(call, response, totalMs),
    );
  }

  #failed(id: number, failure: Failure): void {
    const evaluation = this.#open.get(id);
    if (evaluation === undefined) return;
    const error = fromStatus(failure.code, failure.message, failure.details);
    const waitMs = this.retry.waitAfter(error, evaluation.refusals);
    if (waitMs === undefined) return this.#settle(id, evaluation, error);
    this.#open.delete(id);
    evaluation.refusals++;
    this.#later(waitMs, () => this.add(evaluation));
  }

  #settle(id: number, evaluation: Evaluation, outcome: Result | LossdError): void {
    this.#open.delete(id);
    this.#unanswered.delete(evaluation);
    evaluation.outcome = outcome;
    evaluation.assembly = undefined;
    this.#furthest = 0;
    this.retry.extend();
    this.notify();
  }

  /** The call is over: all that is unanswered goes again, by another one, where that is of use. */
  #broke(error: LossdError): void {
    this.#stream?.cancel();
    this.#stream = undefined;
    // Each attempt that gets further than those before has its own time.
    if (this.#sent > this.#furthest) {
      this.#furthest = this.#sent;
      this.retry.extend();
    }
    try {
      const waitMs = this.#unanswered.size === 0 ? 0 : this.retry.waitMs(error);
      this.#quiet();
      this.#later(waitMs, () => {
        this.#outbox = [...this.#unanswered];
        this.#open.clear();
        this.#blocks = undefined;
        this.#writing = this.#sent = 0;
        this.#paused = false;
        if (this.#outbox.length > 0) this.#send();
      });
    } catch (final) {
      this.#fail(final);
    }
  }
}
