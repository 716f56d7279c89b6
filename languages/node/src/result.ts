/** Results: what the response message of any loss says; and answers that come in blocks. */

import { type BlockResult, type CrossEntropyResponse, type WireTensor } from "./contract.js";
import { InternalError } from "./errors.js";
import type { Result } from "./options.js";
import type { Plan } from "./plan.js";
import { type Call, isReduced } from "./request.js";
import { adopt, elementBytes, give, type Tensor } from "./tensor.js";

type Gradients = "inputGradient" | "targetGradient" | "weightGradient";
type OutputNames = "lse" | "entropy" | "argmax" | "correct";

/** The result in a response, all of which have the same fields. blocks: what came before it, by field. */
export function fromResponse(
  call: Call,
  response: CrossEntropyResponse,
  totalMs: number,
  blocks: ReadonlyMap<string, Tensor> = new Map(),
): Result {
  const tensorOf = (field: string, sent: WireTensor | undefined): Tensor | undefined =>
    blocks.get(field) ?? (sent === undefined ? undefined : give(sent));
  const loss = tensorOf("loss", response.loss);
  if (loss === undefined) throw new InternalError("the answer has no loss", { reason: "MALFORMED_ANSWER" });
  const grads: Record<string, Tensor> = {};
  for (const name of call.gradients) {
    const gradient = tensorOf(`${name}Gradient`, response[`${name}Gradient` as Gradients]);
    if (gradient !== undefined) grads[name] = gradient;
  }
  const outputs: Record<string, Tensor> = {};
  for (const name of OUTPUTS) {
    const output = tensorOf(name, response.outputs?.[name]);
    if (output !== undefined) outputs[name] = output;
  }
  const { summary, timing } = response;
  return {
    // A scalar is a number, but where losses were asked for.
    loss: (isReduced(call) ? Number(loss.data[0]) : loss) as Result["loss"],
    grad: grads["input"] as Result["grad"],
    grads,
    outputs,
    summary: { lossSum: summary?.lossSum ?? 0, weightSum: summary?.weightSum ?? 0, count: summary?.count ?? 0 },
    timing: {
      queueMs: (timing?.queueNs ?? 0) / 1e6,
      computeMs: (timing?.computeNs ?? 0) / 1e6,
      batchRequests: timing?.batchRequests ?? 0,
      batchRows: timing?.batchRows ?? 0,
      totalMs,
    },
  };
}

const OUTPUTS: readonly OutputNames[] = ["lse", "entropy", "argmax", "correct"];

interface Space {
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  filled: number;
}

/** The answer to `call` as its blocks come: each tensor's elements are copied once, to where they shall lie. */
export class Assembly {
  readonly #spaces = new Map<string, Space>();

  constructor(
    readonly call: Call,
    readonly plan: Plan,
  ) {}

  take(block: BlockResult): void {
    for (const name of ["loss", "inputGradient", "targetGradient"] as const)
      this.#copy(name, block[name], block.firstItem);
    for (const name of OUTPUTS) this.#copy(name, block.outputs?.[name], block.firstItem);
  }

  result(response: CrossEntropyResponse, totalMs: number): Result {
    const blocks = new Map<string, Tensor>();
    for (const [name, { dtype, shape, bytes, filled }] of this.#spaces) {
      if (filled !== this.plan.items) throw malformed(`${filled} of ${this.plan.items} items of ${name}`);
      blocks.set(name, adopt(dtype, shape, bytes));
    }
    return fromResponse(this.call, response, totalMs, blocks);
  }

  #copy(name: string, sent: WireTensor | undefined, first: number): void {
    if (sent === undefined) return;
    let space = this.#spaces.get(name);
    const [items = 0, ...rest] = sent.shape;
    const itemBytes = rest.reduce((product, size) => product * size, elementBytes(sent.dtype));
    if (space === undefined) {
      space = {
        dtype: sent.dtype,
        shape: [this.plan.items, ...rest],
        bytes: new Uint8Array(this.plan.items * itemBytes),
        filled: 0,
      };
      this.#spaces.set(name, space);
    }
    const data = sent.data ?? new Uint8Array(0);
    const isNext =
      first === space.filled && first + items <= this.plan.items && itemBytes * this.plan.items === space.bytes.length;
    if (!isNext || data.length !== items * itemBytes) {
      throw malformed(`${name} of shape [${sent.shape.join(", ")}] in ${data.length} bytes at item ${first}`);
    }
    space.bytes.set(data, first * itemBytes);
    space.filled = first + items;
  }
}

function malformed(what: string): InternalError {
  return new InternalError(`a block of the answer holds ${what}`, { reason: "MALFORMED_ANSWER" });
}
