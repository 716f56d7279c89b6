/** Evaluations of a stream, and the messages of one that goes in blocks. */

import { type Block, StreamRequest } from "./contract.js";
import type { LossdError } from "./errors.js";
import type { Result } from "./options.js";
import type { Plan } from "./plan.js";
import { type Call, message, tensorBytes } from "./request.js";
import type { Assembly } from "./result.js";
import type { Operand } from "./tensor.js";
import type { Init } from "./wire.js";

/** A call on its way. body: its request, where it goes whole. outcome: its end, undefined before. */
export class Evaluation {
  outcome: Result | LossdError | undefined;
  refusals = 0;
  assembly: Assembly | undefined;
  readonly startMs = performance.now();

  constructor(
    readonly call: Call,
    readonly plan: Plan | undefined,
    readonly body: Buffer | undefined,
  ) {}

  get size(): number {
    return this.body?.length ?? tensorBytes(this.call);
  }
}

/** The messages of an evaluation that goes in blocks, made as they are asked for. */
export function* blockMessages(call: Call, { items, step, streamed }: Plan, evaluationId: number): Iterator<Buffer> {
  yield StreamRequest.encode({ open: { evaluationId, [call.method.field]: message(call, streamed) } });
  for (let first = 0; first < items; first += step) {
    const stop = Math.min(first + step, items);
    const block: Record<string, unknown> = { evaluationId, firstItem: first };
    for (const name of streamed) block[name] = part(call.operands.get(name)!, first, stop);
    yield StreamRequest.encode({ block: block as Init<Block> });
  }
  yield StreamRequest.encode({ end: { evaluationId } });
}

function part({ dtype, shape, bytes, itemBytes }: Operand, first: number, stop: number): object {
  return { dtype, shape: [stop - first, ...shape.slice(1)], data: bytes.subarray(first * itemBytes, stop * itemBytes) };
}
