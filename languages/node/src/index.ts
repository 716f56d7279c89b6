/** The client of lossd. See Client. */

export { Client, type ClientOptions } from "./client.js";
export {
  DeadlineExceeded,
  InternalError,
  InvalidArgument,
  LossdError,
  NotServed,
  Overloaded,
  TooLarge,
  Unauthenticated,
  Unavailable,
} from "./errors.js";
export type {
  Activation,
  BCEOptions,
  BCEWithLogitsOptions,
  CallOptions,
  CrossEntropyOptions,
  EntropyOptions,
  GradientName,
  Gradients,
  Item,
  Kind,
  KLDivergenceOptions,
  Loss,
  MapOptions,
  NLLOptions,
  Options,
  OutputName,
  Reduction,
  Result,
  SelfInformationOptions,
  SoftmaxOptions,
  Summary,
  Timing,
  Verb,
} from "./options.js";
export type { ServerInfo } from "./server-info.js";
export { type DType, type DTypeOf, tensor, type Tensor, type TensorLike, type TypedArray } from "./tensor.js";
