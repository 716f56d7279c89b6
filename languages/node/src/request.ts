/** Request builder: from a method's name, tensors and options to its message. The contract is the only table of options. */

import * as contract from "./contract.js";
import { didYouMean, InvalidArgument, shown } from "./errors.js";
import type { Verb } from "./options.js";
import { type Operand, take } from "./tensor.js";
import type { Field, Message } from "./wire.js";

interface Method {
  readonly rpc: string;
  /** Of Open and of EvaluationResult. */
  readonly field: string;
  readonly request: Message<object>;
  readonly response: Message<contract.CrossEntropyResponse>;
  readonly tensors: readonly string[];
  readonly activation?: number;
  /** Fields of the request that are no options. */
  readonly without?: readonly string[];
}

const INPUT = ["input"] as const;
const BOTH = ["input", "target"] as const;
const FUNCTION = contract.ActivationFunction;
const VALUE = ["reduction", "gradients", "gradOutput"] as const;

function activation(value: number, ...without: string[]): Method {
  return {
    rpc: "Activation",
    field: "activation",
    request: contract.ActivationRequest,
    response: contract.ActivationResponse,
    tensors: INPUT,
    activation: value,
    without: [...VALUE, ...without],
  };
}

export const METHODS: Readonly<Record<Verb, Method>> = {
  entropy: {
    rpc: "Entropy",
    field: "entropy",
    request: contract.EntropyRequest,
    response: contract.EntropyResponse,
    tensors: INPUT,
  },
  crossEntropy: {
    rpc: "CrossEntropy",
    field: "crossEntropy",
    request: contract.CrossEntropyRequest,
    response: contract.CrossEntropyResponse,
    tensors: BOTH,
  },
  bce: { rpc: "BCE", field: "bce", request: contract.BCERequest, response: contract.BCEResponse, tensors: BOTH },
  bceWithLogits: {
    rpc: "BCEWithLogits",
    field: "bceWithLogits",
    request: contract.BCEWithLogitsRequest,
    response: contract.BCEWithLogitsResponse,
    tensors: BOTH,
  },
  klDivergence: {
    rpc: "KLDivergence",
    field: "klDivergence",
    request: contract.KLDivergenceRequest,
    response: contract.KLDivergenceResponse,
    tensors: BOTH,
  },
  nll: { rpc: "NLL", field: "nll", request: contract.NLLRequest, response: contract.NLLResponse, tensors: BOTH },
  selfInformation: {
    rpc: "SelfInformation",
    field: "selfInformation",
    request: contract.SelfInformationRequest,
    response: contract.SelfInformationResponse,
    tensors: INPUT,
  },
  softmax: activation(FUNCTION.softmax),
  logSoftmax: activation(FUNCTION.log_softmax),
  sigmoid: activation(FUNCTION.sigmoid, "dim"),
  logSigmoid: activation(FUNCTION.log_sigmoid, "dim"),
};

export const CALL_OPTIONS = ["signal", "timeoutMs", "transport"];
const INT64 = 2n ** 63n;

/** One evaluation, ready for any transport. fields: the request's, but its tensors. operands: those, by field. */
export interface Call {
  readonly verb: Verb;
  readonly method: Method;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly operands: ReadonlyMap<string, Operand>;
  readonly gradients: readonly string[];
}

/** The call of a method, or InvalidArgument. */
export function build(verb: Verb, operands: readonly unknown[], options: object | undefined): Call {
  const method = METHODS[verb];
  const taken = new Map<string, Operand>();
  for (const [at, name] of method.tensors.entries()) taken.set(name, take(name, operands[at]));
  const fields: Record<string, unknown> = {};
  if (method.activation !== undefined) fields["function"] = method.activation;
  for (const [option, value] of entries(options)) {
    if (CALL_OPTIONS.includes(option)) continue;
    if (option === "logTarget" && verb === "klDivergence") {
      if (flag(option, value)) setTargetKind(fields, options as { targetKind?: unknown });
      continue;
    }
    const field = optionField(method, option);
    if (field === undefined) throw unknown(verb, option);
    if (value === undefined || value === null) continue;
    if (field.message !== undefined) taken.set(field.name, take(wireName(option), value));
    else fields[field.name] = written(option, field, value);
  }
  const gradients = ((fields["gradients"] ?? []) as number[]).map((number) => nameOf(contract.Gradient, number));
  return { verb, method, fields, operands: taken, gradients };
}

/** The request's message. streamed: the tensors whose elements come in blocks. */
export function message(call: Call, streamed: readonly string[] = []): object {
  const made: Record<string, unknown> = { ...call.fields };
  for (const [name, { dtype, shape, bytes }] of call.operands) {
    made[name] = streamed.includes(name) ? { dtype, shape, streamed: {} } : { dtype, shape, data: bytes };
  }
  return made;
}

/** Whether the loss is one number. */
export function isReduced(call: Call): boolean {
  const isNone = call.verb === "selfInformation" || call.method.activation !== undefined;
  const { none, mean } = contract.Reduction;
  return (call.fields["reduction"] ?? (isNone ? none : mean)) !== none;
}

/** Bytes of all tensors. */
export function tensorBytes(call: Call): number {
  let total = 0;
  for (const operand of call.operands.values()) total += operand.bytes.length;
  return total;
}

/** Every option that a method takes. */
export function optionNames(verb: Verb): string[] {
  const method = METHODS[verb];
  const fields = method.request.fields.map(({ name }) => (name === "gradients" ? "grad" : name));
  const own = fields.filter((name) => optionField(method, name) !== undefined);
  return [...own, ...(verb === "klDivergence" ? ["logTarget"] : []), ...CALL_OPTIONS];
}

/** An option as the wire names it: "label_smoothing". */
export function wireName(option: string): string {
  return option === "grad" ? "gradients" : option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

export function entries(options: unknown): [string, unknown][] {
  if (options === undefined || options === null) return [];
  if (typeof options !== "object" || Array.isArray(options) || ArrayBuffer.isView(options)) {
    throw new InvalidArgument(`options must be an object, { reduction: "sum" }, not ${shown(options)}`, {
      field: "options",
      reason: "WRONG_TYPE",
    });
  }
  return Object.entries(options);
}

function optionField(method: Method, option: string): Field | undefined {
  const name = option === "grad" ? "gradients" : option;
  if (option === "gradients" || [...method.tensors, "placements", "function", ...(method.without ?? [])].includes(name))
    return undefined;
  return method.request.fields.find((field) => field.name === name);
}

function unknown(verb: Verb, option: string): InvalidArgument {
  const known = optionNames(verb);
  const hint = didYouMean(option, known) || `; it has ${known.join(", ")}`;
  return new InvalidArgument(`${verb} has no option ${shown(option)}${hint}`, {
    field: option,
    reason: "UNKNOWN_OPTION",
  });
}

function written(option: string, field: Field, value: unknown): unknown {
  if (field.type === "double") {
    if (typeof value !== "number") throw refused(option, value, "must be a number, not", "WRONG_TYPE");
    return value;
  }
  if (field.type === "int64") {
    if (typeof value === "bigint" ? value < -INT64 || value >= INT64 : !Number.isSafeInteger(value)) {
      throw refused(option, value, "must be a whole number of 64 bits, not", "WRONG_TYPE");
    }
    return value;
  }
  const names = Object.keys(field.values!);
  if (option === "grad" && typeof value === "boolean") return value ? [contract.Gradient.input] : [];
  const also = option === "grad" ? ["true", "false"] : [];
  if (!field.repeated) return enumeration(option, field, names, also, value);
  const values = Array.isArray(value) ? (value as unknown[]) : [value];
  return values.map((one) => enumeration(option, field, names, also, one));
}

function enumeration(
  option: string,
  field: Field,
  names: readonly string[],
  also: readonly string[],
  value: unknown,
): number {
  if (typeof value === "string" && names.includes(value)) return field.values![value]!;
  throw unknownValue(option, value, names, also);
}

/** The refusal of a value that is none of `names`. */
export function unknownValue(
  option: string,
  value: unknown,
  names: readonly string[],
  also: readonly string[] = [],
): InvalidArgument {
  const known = [...also, ...names.map(shown)];
  const must = known.length > 1 ? `${known.slice(0, -1).join(", ")} or ${known.at(-1)!}` : known[0]!;
  return new InvalidArgument(`${option} must be ${must}, not ${shown(value)}${didYouMean(value, names)}`, {
    field: wireName(option),
    reason: "UNKNOWN_ENUM",
    metadata: { value: shown(value), taken: [...also, ...names].join(", ") },
  });
}

export function refused(option: string, value: unknown, must: string, reason: string): InvalidArgument {
  return new InvalidArgument(`${option} ${must} ${shown(value)}`, {
    field: wireName(option),
    reason,
    metadata: { value: shown(value) },
  });
}

function flag(option: string, value: unknown): boolean {
  if (value === undefined || value === null || typeof value === "boolean") return value === true;
  throw refused(option, value, "must be true or false, not", "WRONG_TYPE");
}

/** PyTorch's log_target says that the target is log-probabilities. */
function setTargetKind(fields: Record<string, unknown>, options: { targetKind?: unknown }): void {
  if (![undefined, null, "log_probabilities"].includes(options.targetKind as null)) {
    throw refused("logTarget", true, `and targetKind = ${shown(options.targetKind)} contradict:`, "CONTRADICTION");
  }
  fields["targetKind"] = contract.Kind.log_probabilities;
}

export function nameOf(values: Readonly<Record<string, number>>, number: number): string {
  return Object.keys(values).find((name) => values[name] === number) ?? String(number);
}
