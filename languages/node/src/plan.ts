/**
 * Way of a call: one message, or blocks of a stream. Pure: by size and the server's limits.
 *
 * An item is one index of dimension 0, a row one distribution along the class dimension.
 */

import { DataType, type GetServerInfoResponse, Kind, Output, Reduction } from "./contract.js";
import { InvalidArgument, TooLarge } from "./errors.js";
import { type Call, isReduced, message, tensorBytes, unknownValue } from "./request.js";
import { elementBytes, type Operand } from "./tensor.js";

// Up to here a call goes in one message, and the server is not even asked for its limits.
const SMALL_BYTES = 1 << 20;
// From here on blocks are as fast as one message, whose memory is that of all of it.
const STREAM_BYTES = 8 << 20;
// Requests under this have answers under SMALL_BYTES: an element of one byte brings at most 16 back.
const TINY_BYTES = SMALL_BYTES / 32;
// Of a small request beside its elements, whatever its options; of a block, or of an answer.
const HEADER_BYTES = 2048;
// Of the larger of a block and its answer: what the server computes without a hand-over.
export const BLOCK_BYTES = 5 << 18;

const ELEMENTWISE = ["bce", "bceWithLogits", "selfInformation", "sigmoid", "logSigmoid"];
const BY_DIM = ["entropy", "softmax", "logSoftmax"];

/** A call in blocks of `step` items. streamed: fields whose items come in blocks. */
export interface Plan {
  readonly items: number;
  readonly step: number;
  readonly streamed: readonly string[];
}

export interface Limits {
  readonly maxMessageBytes: number;
  readonly maxItemBytes: number;
  readonly granularity: number;
  readonly maxResponseBytes: number;
  readonly blockBytes: number;
}

export function limitsOf(info: GetServerInfoResponse, maxResponseBytes: number, blockBytes: number): Limits {
  return {
    maxMessageBytes: info.limits?.maxMessageBytes || Infinity,
    maxItemBytes: info.limits?.maxItemBytes ?? 0,
    granularity: Math.max(1, info.elementwiseGranularity),
    maxResponseBytes: Math.min(info.limits?.maxMessageBytes || Infinity, maxResponseBytes),
    blockBytes,
  };
}

/** The option as one of the three, or InvalidArgument. */
export function checkedTransport(transport: unknown): string {
  const known = ["auto", "unary", "stream"];
  const asked = transport ?? "auto";
  if (typeof asked !== "string" || !known.includes(asked)) throw unknownValue("transport", asked, known);
  return asked;
}

/** Whether the call goes in one message whatever the server is. */
export function isSmall(call: Call, transport: string, maxResponseBytes: number): boolean {
  const size = tensorBytes(call);
  if (transport === "stream" || size > SMALL_BYTES - HEADER_BYTES) return false;
  if (maxResponseBytes < SMALL_BYTES && answerBytes(call) > maxResponseBytes) return false;
  return size <= TINY_BYTES || answerBytes(call) <= SMALL_BYTES;
}

/** How the call goes: undefined for one message. Raises InvalidArgument that says why there is no way. */
export function plan(call: Call, transport: string, limits: Limits): Plan | undefined {
  const request = call.method.request.size(message(call));
  const answer = answerBytes(call);
  let tooLarge: string | undefined;
  if (request > limits.maxMessageBytes) {
    tooLarge = `the request has ${request} bytes, the server takes ${limits.maxMessageBytes} in one message`;
  } else if (answer > limits.maxResponseBytes) {
    tooLarge = `the answer has ${answer} bytes, and one message may have ${limits.maxResponseBytes}`;
  }
  if (transport !== "stream" && tooLarge === undefined && Math.max(request, answer) < STREAM_BYTES) return undefined;
  const blocks = transport === "unary" ? "transport is unary" : inBlocks(call, limits);
  if (typeof blocks === "object") return blocks;
  if (transport === "stream") {
    throw new InvalidArgument(`transport = "stream" cannot be: ${blocks}`, {
      field: "transport",
      reason: "TRANSPORT_NOT_POSSIBLE",
      metadata: { value: transport, because: blocks },
    });
  }
  if (tooLarge === undefined) return undefined;
  throw new TooLarge(
    `${tooLarge}, and it cannot be streamed: ${blocks}: send fewer items at a time, or raise the limit`,
    {
      field: request > limits.maxMessageBytes ? "max_message_bytes" : "max_response_bytes",
      reason: "MESSAGE_TOO_LARGE",
      metadata: { request_bytes: String(request), answer_bytes: String(answer) },
    },
  );
}

/** How the call can be streamed, or, as the end of a sentence, why it cannot. */
function inBlocks(call: Call, limits: Limits): Plan | string {
  const input = call.operands.get("input")!;
  const items = input.shape[0];
  if (items === undefined) return "input is a scalar";
  if (limits.maxItemBytes === 0) return "this server has no Stream";
  const axis = rowAxis(call);
  if (axis === 0) return "input is one row, and only whole rows are sent";
  if (items === 0) return "input has no items";
  const streamed = [...call.operands.keys()].filter((name) => name === "input" || isCut(call, name, axis, limits));
  const request = sum(streamed.map((name) => call.operands.get(name)!.itemBytes));
  if (request > limits.maxItemBytes) {
    return `an item (one index of dimension 0) has ${request} bytes, and the server's max_item_bytes is ${limits.maxItemBytes}`;
  }
  const whole = sum([...call.operands].filter(([name]) => !streamed.includes(name)).map(([, one]) => one.bytes.length));
  if (whole + HEADER_BYTES > limits.maxMessageBytes) {
    const why = needsDenominator(call)
      ? "; give the mean's denominator as normalizer, and the targets need not go first"
      : "";
    return `what goes with every item has ${whole} bytes, and the server's max_message_bytes is ${limits.maxMessageBytes}${why}`;
  }
  const grain = axis === undefined ? Math.max(1, Math.ceil(limits.granularity / product(input.shape.slice(1)))) : 1;
  const least = Math.min(grain, items);
  const answer = answerItemBytes(call);
  const mostRequest = limits.maxMessageBytes - HEADER_BYTES;
  const mostAnswer = limits.maxResponseBytes - HEADER_BYTES;
  if (least * request > mostRequest || least * answer > mostAnswer || weightGradientBytes(call) > mostAnswer) {
    return `${least} items (indices of dimension 0) and their answers do not fit a message`;
  }
  const fits = (bytes: number, most: number): number =>
    Math.floor(Math.min(limits.blockBytes, most) / Math.max(bytes, 1));
  const step = Math.floor(Math.min(fits(request, mostRequest), fits(answer, mostAnswer)) / grain) * grain;
  return { items, step: Math.max(grain, step), streamed };
}

/** Whether a tensor beside the input goes in blocks: it has the input's items, and is large or has a gradient. */
function isCut(call: Call, name: string, axis: number | undefined, limits: Limits): boolean {
  const operand = call.operands.get(name)!;
  const shape = call.operands.get("input")!.shape;
  if (operand.shape.length === 0 || operand.shape[0] !== shape[0]) return false;
  if (name === "weight" || name === "posWeight") {
    if (axis !== undefined || operand.shape.length !== shape.length) return false;
  } else if (name === "gradOutput") {
    if (isReduced(call)) return false;
  } else if (needsDenominator(call) && (name === "rowWeight" || isIndexTarget(call))) {
    return false; // the server reads the mean's denominator in them, before the first block
  }
  return (
    operand.bytes.length > Math.min(limits.blockBytes, limits.maxMessageBytes / 8) || call.gradients.includes(name)
  );
}

/** Whether gradients of a mean are scaled by what only the targets and the row weights say. */
function needsDenominator(call: Call): boolean {
  if (call.gradients.length === 0 || "normalizer" in call.fields) return false;
  const mean = (call.fields["reduction"] ?? Reduction.mean) === Reduction.mean;
  return mean && (call.operands.has("rowWeight") || isIndexTarget(call));
}

function isIndexTarget(call: Call): boolean {
  if (call.verb === "nll") return true;
  if (call.verb !== "crossEntropy") return false;
  const kind = call.fields["targetKind"];
  return kind === undefined ? call.operands.get("target")!.dtype < DataType.float8_e4m3fn : kind === Kind.indices;
}

/** The dimension along which a row lies; undefined where every element is computed for itself. */
function rowAxis(call: Call): number | undefined {
  if (ELEMENTWISE.includes(call.verb)) return undefined;
  const kinds = [call.fields["kind"], call.fields["targetKind"]];
  if (call.verb === "klDivergence" && !kinds.includes(Kind.logits) && !kinds.includes(Kind.counts)) return undefined;
  const rank = call.operands.get("input")!.shape.length;
  const dim = BY_DIM.includes(call.verb) ? call.fields["dim"] : undefined;
  if (dim !== undefined && rank > 0) return ((Number(dim) % rank) + rank) % rank;
  return rank > 1 ? 1 : 0;
}

/** At least the bytes of the whole answer. */
function answerBytes(call: Call): number {
  return HEADER_BYTES + weightGradientBytes(call) + answerItemBytes(call) * (call.operands.get("input")!.shape[0] ?? 1);
}

function weightGradientBytes(call: Call): number {
  return call.gradients.includes("weight")
    ? 8 * (call.operands.get("input")!.shape[1] ?? call.operands.get("input")!.shape[0] ?? 1)
    : 0;
}

/** Bytes of what comes back for one item: gradients, losses that are not reduced, by-products. */
function answerItemBytes(call: Call): number {
  const input = call.operands.get("input")!;
  const elements = product(input.shape.slice(1));
  const wide = [...call.operands.values()].some(({ dtype }) => dtype === DataType.float64) ? 8 : 4;
  let size = 0;
  for (const name of call.gradients) {
    const operand: Operand | undefined = name === "weight" ? undefined : call.operands.get(name);
    if (operand !== undefined) size += product(operand.shape.slice(1)) * gradientBytes(operand.dtype);
  }
  const axis = rowAxis(call);
  const isActivation = call.method.activation !== undefined;
  let losses = elements;
  if (axis !== undefined && call.verb !== "klDivergence" && !isActivation) {
    losses = axis === 0 ? 1 : elements / Math.max(1, input.shape[axis]!);
  }
  if (!isReduced(call)) size += losses * (isActivation ? elementBytes(input.dtype) : wide);
  const outputs = (call.fields["outputs"] ?? []) as readonly number[];
  return size + sum(outputs.map((one) => losses * (one === Output.argmax ? 8 : one === Output.correct ? 1 : wide)));
}

/** Of an element of a gradient: float32 for 8-bit floats and integers. */
function gradientBytes(dtype: number): number {
  return dtype >= DataType.float16 ? elementBytes(dtype) : 4;
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1);
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0);
}
