// Compiled and never run: what TypeScript knows, and what it refuses.
import { Client, InvalidArgument, LossdError, Overloaded, tensor, type Result, type Tensor } from "lossd";

type Equal<X, Y> = (<T>() => T extends X ? 1 : 2) extends <T>() => T extends Y ? 1 : 2 ? true : false;
function is<X, Y>(_: Equal<X, Y>): void {}

const client = new Client("127.0.0.1:50051", { timeoutMs: 5_000, token: "secret" });
const x = tensor(new Float32Array(6), [2, 3]);
const y = new BigInt64Array(2);
is<typeof x, Tensor<Float32Array<ArrayBuffer>>>(true);

export async function whatIsKnown(reduction: "none" | "mean"): Promise<void> {
  const mean = await client.crossEntropy(x, y);
  is<typeof mean.loss, number>(true);
  is<typeof mean.grad, undefined>(true);
  const none = await client.crossEntropy(x, y, { reduction: "none", grad: true });
  is<typeof none.loss, Tensor<Float32Array | Float64Array>>(true);
  none.grad.data.fill(0);
  is<typeof none.grad, Tensor<Float32Array<ArrayBuffer>>>(true);
  const either = await client.crossEntropy(x, y, { reduction });
  is<typeof either.loss, number | Tensor<Float32Array | Float64Array>>(true);
  const both = await client.bce(x, x, { grad: ["target", "input"] });
  both.grad.data.fill(0);
  const target = await client.bce(x, x, { grad: ["target"] });
  is<typeof target.grad, undefined>(true);
  const names: ("input" | "target")[] = ["input"];
  const some = await client.bce(x, x, { grad: names });
  is<typeof some.grad, Tensor<Float32Array<ArrayBuffer>> | undefined>(true);
  const information = await client.selfInformation(x);
  is<typeof information.loss, Tensor<Float32Array | Float64Array>>(true);
  const half = await client.crossEntropy(tensor(new Uint16Array(6), [2, 3], "bfloat16"), y, { grad: true });
  half.grad.data satisfies Uint16Array;
  const eight = await client.crossEntropy(tensor(new Uint8Array(6), [2, 3], "float8_e5m2"), y, { grad: true });
  eight.grad.data satisfies Float32Array;
  const value = await client.softmax(new Float64Array(3), { dim: 0 });
  value.data satisfies Float64Array;
  await client.klDivergence(x, x, { reduction: "batchmean", logTarget: true, kind: "logits" });
  await client.crossEntropy(x, y, {
    signal: AbortSignal.timeout(1000),
    timeoutMs: 10,
    outputs: ["argmax"],
    ignoreIndex: -1n,
  });
  for await (const result of client.map(
    "crossEntropy",
    [[x, y] as const, { input: x, target: y, labelSmoothing: 0.1 }],
    { grad: true },
  )) {
    result.loss satisfies number;
    result.grad.data.length satisfies number;
  }
  for await (const outcome of client.map("bce", [[x, x]], { errors: "yield", reduction: "sum" })) {
    if (outcome instanceof LossdError) outcome.reason satisfies string;
    else outcome.loss satisfies number;
  }
  for await (const one of client.map("softmax", [x])) one.shape satisfies readonly number[];
  const kept: Result[] = [mean, none];
  kept.length satisfies number;
  (await client.serverInfo()).limits.maxMessageBytes satisfies number;
  const error = new Overloaded("full");
  error.retryAfterMs satisfies number;
  new InvalidArgument("no") satisfies LossdError;
}

export function whatIsRefused(): void {
  // @ts-expect-error a misspelt option
  void client.crossEntropy(x, y, { labelSmooting: 0.1 });
  // @ts-expect-error an option as the wire spells it
  void client.crossEntropy(x, y, { label_smoothing: 0.1 });
  // @ts-expect-error a misspelt value
  void client.crossEntropy(x, y, { reduction: "avg" });
  // @ts-expect-error a reduction of another loss
  void client.crossEntropy(x, y, { reduction: "batchmean" });
  // @ts-expect-error an option of another loss
  void client.bce(x, x, { softcap: 1 });
  // @ts-expect-error a kind that targets do not have
  void client.crossEntropy(x, y, { targetKind: "logits" });
  // @ts-expect-error a gradient that there is not
  void client.crossEntropy(x, y, { grad: ["inputs"] });
  // @ts-expect-error a text for a number
  void client.crossEntropy(x, y, { labelSmoothing: "0.1" });
  // @ts-expect-error no target
  void client.crossEntropy(x);
  // @ts-expect-error a list
  void client.softmax([1, 2, 3]);
  // @ts-expect-error unsigned labels
  void client.nll(x, new Uint32Array(2));
  // @ts-expect-error 16-bit floats without a name
  tensor(new Uint16Array(6), [2, 3]);
  // @ts-expect-error a dtype of another array
  tensor(new Float32Array(6), [2, 3], "float64");
  // @ts-expect-error a client's misspelt option
  new Client("localhost", { timeout: 5 });
  // @ts-expect-error an unknown verb
  client.map("crossEntropi", []);
  // @ts-expect-error a misspelt option of map
  client.map("crossEntropy", [[x, y]], { labelSmooting: 0.1 });
  // @ts-expect-error an item without its target
  client.map("crossEntropy", [x]);
  // @ts-expect-error a gradient that was not asked for
  void client.crossEntropy(x, y).then((result) => result.grad.data);
}
