/**
 * Types of what methods take and give. Absent means PyTorch's default.
 *
 * `R`, `G`, `A` stand for the reduction, the gradients asked for, and the input's array: they say what a result holds.
 */

import type * as contract from "./contract.js";
import type { LossdError } from "./errors.js";
import type { TensorLike, Tensor, TypedArray } from "./tensor.js";

export type Kind = "logits" | "log_probabilities" | "probabilities" | "counts";
export type Reduction = "none" | "mean" | "sum";
export type GradientName = "input" | "target" | "weight";
export type Gradients = boolean | GradientName | readonly GradientName[];
export type OutputName = "lse" | "entropy" | "argmax" | "correct";

export interface CallOptions {
  /** Gives the call up when it is aborted; the call then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds for the whole call. By default the client's: for a stream, those without progress. */
  timeoutMs?: number | undefined;
  /** One message, or blocks of a stream; by size where it is "auto". */
  transport?: "auto" | "unary" | "stream" | undefined;
}

interface Common<R, G> extends CallOptions {
  /** How losses become one: "mean", "sum", or "none" for one loss each. */
  reduction?: R | undefined;
  /** true for the gradient by the input, or the names of the tensors whose gradients to compute. */
  grad?: G | undefined;
  /** Upstream gradient, of the loss's shape; ones by default. */
  gradOutput?: TensorLike | undefined;
  /** Replaces the mean's denominator; finite and > 0. */
  normalizer?: number | undefined;
  /** The mean over no kept row: "nan" (the default) or "zero". */
  emptyMean?: "nan" | "zero" | undefined;
}

export interface EntropyOptions<R, G> extends Common<R, G> {
  /** What the input's numbers mean: "probabilities" by default. */
  kind?: "probabilities" | "logits" | "counts" | undefined;
  /** Of the logarithm: nats by default, bits for 2. */
  base?: number | undefined;
  /** The class dimension; 1 by default, 0 for a 1-D input. */
  dim?: number | undefined;
  /** One weight for each row. */
  rowWeight?: TensorLike | undefined;
}

export interface CrossEntropyOptions<R, G> extends Common<R, G> {
  /** One weight for each class. */
  weight?: TensorLike | undefined;
  /** One weight for each row. */
  rowWeight?: TensorLike | undefined;
  /** Rows with this target are left out; -100 by default. */
  ignoreIndex?: number | bigint | undefined;
  /** In [0, 1]; 0 by default. */
  labelSmoothing?: number | undefined;
  /** What the input's numbers mean: "logits" by default. */
  kind?: Kind | undefined;
  /** "indices" for integer targets, "probabilities" for others, by default. */
  targetKind?: "indices" | "probabilities" | "counts" | undefined;
  /** Of the logarithm: nats by default, bits for 2. */
  base?: number | undefined;
  /** Adds zLoss · (ln Σ exp x)² to each row's loss. */
  zLoss?: number | undefined;
  /** Replaces the logits x by softcap · tanh(x / softcap). */
  softcap?: number | undefined;
  /** By-products of the same pass, in `result.outputs`. */
  outputs?: OutputName | readonly OutputName[] | undefined;
}

export interface BCEOptions<R, G> extends Common<R, G> {
  /** Broadcasts to the input. */
  weight?: TensorLike | undefined;
}

export interface BCEWithLogitsOptions<R, G> extends BCEOptions<R, G> {
  /** The weight of ones; broadcasts to the input. */
  posWeight?: TensorLike | undefined;
}

export interface KLDivergenceOptions<R, G> extends Common<R, G> {
  /** What the input's numbers mean: "log_probabilities" by default. */
  kind?: Kind | undefined;
  /** What the target's numbers mean: "probabilities" by default. */
  targetKind?: Kind | undefined;
  /** true says targetKind: "log_probabilities". */
  logTarget?: boolean | undefined;
  /** Of the logarithm: nats by default, bits for 2. */
  base?: number | undefined;
}

export interface NLLOptions<R, G> extends Common<R, G> {
  /** One weight for each class. */
  weight?: TensorLike | undefined;
  /** Rows with this target are left out; -100 by default. */
  ignoreIndex?: number | bigint | undefined;
}

export interface SelfInformationOptions<R, G> extends Common<R, G> {
  /** Of the logarithm: nats by default, bits for 2. */
  base?: number | undefined;
}

export interface ElementOptions extends CallOptions {}

export interface SoftmaxOptions extends CallOptions {
  /** The class dimension; 1 by default, 0 for a 1-D input. */
  dim?: number | undefined;
}

/** The options of each method of the client, by its name. */
export interface Options<R = Reduction, G = Gradients> {
  entropy: EntropyOptions<R, G>;
  crossEntropy: CrossEntropyOptions<R, G>;
  bce: BCEOptions<R, G>;
  bceWithLogits: BCEWithLogitsOptions<R, G>;
  klDivergence: KLDivergenceOptions<R | "batchmean", G>;
  nll: NLLOptions<R, G>;
  selfInformation: SelfInformationOptions<R, G>;
  softmax: SoftmaxOptions;
  logSoftmax: SoftmaxOptions;
  sigmoid: ElementOptions;
  logSigmoid: ElementOptions;
}
export type Verb = keyof Options;
export type Activation = "softmax" | "logSoftmax" | "sigmoid" | "logSigmoid";
export type Loss = Exclude<Verb, Activation>;

/** A number where the loss is reduced, else the losses. */
export type LossOf<R> = R extends "none" ? Tensor<Float32Array | Float64Array> : number;

/** A gradient has its tensor's dtype; float32 for 8-bit floats and integers. */
export type GradientArray<A extends TypedArray> = A extends Float32Array | Float64Array | Uint16Array
  ? A
  : Float32Array;

/** The gradient by the input: there if it was asked for. */
export type InputGradient<G, A extends TypedArray> = G extends true | "input"
  ? Tensor<GradientArray<A>>
  : G extends readonly (infer N)[]
    ? number extends G["length"]
      ? Tensor<GradientArray<A>> | undefined
      : "input" extends N
        ? Tensor<GradientArray<A>>
        : undefined
    : undefined;

export interface Result<R = Reduction, G = Gradients, A extends TypedArray = TypedArray> {
  readonly loss: LossOf<R>;
  /** d loss / d input, of the input's shape. */
  readonly grad: InputGradient<G, A>;
  /** Every gradient that was asked for. */
  readonly grads: { readonly [N in GradientName]?: Tensor };
  /** The by-products that were asked for: one entry for each row. */
  readonly outputs: { readonly [N in OutputName]?: Tensor };
  readonly summary: Summary;
  readonly timing: Timing;
}

/** What a reduced loss is made of, whatever the reduction. */
export interface Summary {
  /** The losses' sum before any denominator. */
  readonly lossSum: number;
  /** The denominator that a mean uses. */
  readonly weightSum: number;
  /** Kept rows; elements for the elementwise losses. */
  readonly count: number;
}

/** Where the time went: waiting and computing on the server, with whom, and in all as the caller saw it. */
export interface Timing {
  readonly queueMs: number;
  readonly computeMs: number;
  readonly batchRequests: number;
  readonly batchRows: number;
  readonly totalMs: number;
}

/** What `map` gives for each item: a result, of an activation its value; with errors: "yield" perhaps an error. */
export type Mapped<V extends Verb, O> =
  | (V extends Activation
      ? Tensor
      : Result<
          O extends { reduction: infer R } ? R : V extends "selfInformation" ? "none" : "mean",
          O extends { grad: infer G } ? G : false
        >)
  | (O extends { errors: infer E } ? ("yield" extends E ? LossdError : never) : never);

/** `O`, which has no names but `K`. */
export type Only<O, K> = O & { readonly [N in Exclude<keyof O, K>]: never };

/** An item of `map`: its tensors in order, or by name with options of its own; or its only tensor. */
export type Item<V extends Verb> =
  | (V extends "entropy" | "selfInformation" | Activation
      ? TensorLike | readonly [TensorLike]
      : readonly [TensorLike, TensorLike])
  | ({ readonly input: TensorLike; readonly target?: TensorLike } & Omit<Options[V], keyof CallOptions>);

/** Beside the options of all items. timeoutMs is without progress here. */
export interface MapOptions {
  /** "raise" (the default) ends the iteration at an item that failed; "yield" gives its LossdError and goes on. */
  errors?: "raise" | "yield" | undefined;
  /** Items that are read ahead of the results: 1024 by default. */
  window?: number | undefined;
}

// A field of the contract that has no option here, or the reverse, does not compile.
type Same<X, Y> = [X, Y] extends [Y, X] ? true : false;
type All<T extends readonly true[]> = T;
type Fields<M> = Exclude<keyof M, "input" | "target" | "placements" | "function" | "gradients"> | "grad";
type Own<V extends Verb> = Exclude<keyof Options[V], keyof CallOptions>;
export type Complete = All<
  [
    Same<Own<"entropy">, Fields<contract.EntropyRequest>>,
    Same<Own<"crossEntropy">, Fields<contract.CrossEntropyRequest>>,
    Same<Own<"bce">, Fields<contract.BCERequest>>,
    Same<Own<"bceWithLogits">, Fields<contract.BCEWithLogitsRequest>>,
    Same<Exclude<Own<"klDivergence">, "logTarget">, Fields<contract.KLDivergenceRequest>>,
    Same<Own<"nll">, Fields<contract.NLLRequest>>,
    Same<Own<"selfInformation">, Fields<contract.SelfInformationRequest>>,
  ]
>;
