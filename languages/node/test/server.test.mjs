// Against the server at LOSSD_TEST_ADDRESS.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Client, InvalidArgument, LossdError, tensor } from "lossd";
import { adopt } from "../dist/tensor.js";

const ADDRESS = process.env.LOSSD_TEST_ADDRESS;
const client = new Client(ADDRESS);
after(() => client.close());

const logits = (n, c) =>
  tensor(
    Float32Array.from({ length: n * c }, (_, i) => ((i * 7919) % 10007) / 1000 - 5),
    [n, c],
  );
const labels = (n, c) => BigInt64Array.from({ length: n }, (_, i) => BigInt((i * 31) % c));

test("a loss is a number with its summary and timing, a gradient has the input's array and shape", async () => {
  const { loss, grad, summary, timing } = await client.crossEntropy(logits(8, 16), labels(8, 16), { grad: true });

  assert.equal(Math.fround(summary.lossSum / summary.weightSum), loss);
  assert.equal(summary.count, 8);
  assert.ok(grad.data instanceof Float32Array);
  assert.deepEqual(grad.shape, [8, 16]);
  assert.ok(timing.totalMs > 0 && timing.batchRows >= 8);
});

test("a call has the same bits as one message and as a stream of many blocks", async () => {
  const cutting = new Client(ADDRESS, { blockBytes: 4096 });
  const [x, y] = [logits(300, 70), labels(300, 70)];
  const options = { grad: true, labelSmoothing: 0.1, outputs: ["lse", "argmax"] };
  const whole = await client.crossEntropy(x, y, options);
  const blocks = await cutting.crossEntropy(x, y, { ...options, transport: "stream" });
  cutting.close();

  assert.equal(blocks.loss, whole.loss);
  assert.deepEqual(blocks.grad, whole.grad);
  assert.deepEqual(blocks.outputs, whole.outputs);
  assert.deepEqual(blocks.summary, whole.summary);
});

test("what does not fit one message goes in blocks by itself, with targets that do as well", async () => {
  const [n, c] = [3_000_000, 2];
  const { grad, summary } = await client.crossEntropy(logits(n, c), new Int8Array(n), { grad: true });

  assert.equal(summary.count, n);
  assert.deepEqual(grad.shape, [n, c]);
});

test("labels too many for one message need the mean's denominator, and the refusal says how to give it", async () => {
  const [n, c] = [2_200_000, 2];
  const [x, y] = [logits(n, c), new BigInt64Array(n)];

  await assert.rejects(client.crossEntropy(x, y, { grad: true }), /as normalizer/);
  assert.equal((await client.crossEntropy(x, y, { grad: true, normalizer: n })).summary.count, n);
  assert.equal((await client.crossEntropy(x, y)).summary.count, n);
});

test("answers smaller than one message are had by a client that takes no larger ones", async () => {
  const careful = new Client(ADDRESS, { maxResponseBytes: 1 << 18 });
  const { grad } = await careful.crossEntropy(logits(3000, 100), labels(3000, 100), { grad: true });
  await assert.rejects(careful.softmax(new Float32Array(1 << 17)), { name: "TooLarge", reason: "MESSAGE_TOO_LARGE" });
  careful.close();

  assert.equal(grad.data.length, 300_000);
});

test("scalars, empty tensors, NaN and every dtype make the round trip", async () => {
  const one = await client.crossEntropy(new Float32Array([0, 0]), tensor(new BigInt64Array([1n]), []), {
    reduction: "none",
  });
  assert.deepEqual(one.loss.shape, []);
  assert.ok(Math.abs(one.loss.data[0] - Math.LN2) < 1e-6);
  const empty = await client.crossEntropy(tensor(new Float32Array(0), [0, 3]), new BigInt64Array(0), { grad: true });
  assert.ok(Number.isNaN(empty.loss));
  assert.deepEqual(empty.grad, { dtype: "float32", shape: [0, 3], data: new Float32Array(0) });
  assert.equal(
    (await client.crossEntropy(tensor(new Float32Array(0), [0, 3]), new BigInt64Array(0), { emptyMean: "zero" })).loss,
    0,
  );
  assert.ok(Number.isNaN((await client.softmax(new Float32Array([NaN, 1]))).data[0]));
  for (const data of [new Float32Array(4), new Float64Array(4)]) {
    assert.deepEqual(
      (await client.sigmoid(tensor(data, [2, 2]))).data,
      data.map(() => 0.5),
    );
  }
  for (const [dtype, half] of [
    ["float16", 0x3800],
    ["bfloat16", 0x3f00],
  ]) {
    const value = await client.sigmoid(tensor(new Uint16Array(3), [3], dtype));
    assert.deepEqual(value, { dtype, shape: [3], data: new Uint16Array(3).fill(half) });
  }
  for (const dtype of ["float8_e4m3fn", "float8_e5m2"]) {
    const { grad } = await client.crossEntropy(tensor(new Uint8Array(4), [2, 2], dtype), new Int32Array(2), {
      grad: "input",
    });
    assert.equal(grad.dtype, "float32");
  }
  for (const target of [new Uint8Array(4), new Int16Array(4), tensor(new Uint8Array(4), [4], "bool")]) {
    assert.ok(Math.abs((await client.bceWithLogits(new Float32Array(4), target)).loss - Math.LN2) < 1e-6);
  }
});

test("a view of a larger buffer is sent as what it shows, at any offset that it may have", async () => {
  const buffer = new ArrayBuffer(4096);
  const view = new Float32Array(buffer, 20, 6);
  view.set([2, 1, 0.1, 0.5, 2.5, 0.3]);
  const { loss } = await client.crossEntropy(tensor(view, [2, 3]), new BigInt64Array(buffer, 80, 2));

  assert.ok(Math.abs(loss - (0.417 + 2.217) / 2) < 0.01);
});

test("large elements of an answer are taken where they lie, or copied where that is not aligned", () => {
  const bytes = new Uint8Array(new ArrayBuffer((1 << 20) + 16));
  for (let offset = 0; offset < 16; offset++) {
    const { data } = adopt(23, [1 << 17], bytes.subarray(offset, offset + (1 << 20)));
    assert.equal(data.length, 1 << 17);
    assert.equal(data.buffer === bytes.buffer, offset % 8 === 0);
  }
  assert.notEqual(adopt(22, [4], bytes.subarray(0, 16)).data.buffer, bytes.buffer);
});

test("a large call that fails fails as a small one does", async () => {
  const y = labels(100_000, 50);
  y[99_000] = 50n;
  const [small, large] = await Promise.all([
    client.crossEntropy(logits(2, 50), y.subarray(98_999, 99_001)).catch((error) => error),
    client.crossEntropy(logits(100_000, 50), y).catch((error) => error),
  ]);

  for (const error of [small, large]) {
    assert.ok(error instanceof InvalidArgument);
    assert.deepEqual([error.field, error.reason, error.metadata.value], ["target", "CLASS_OUT_OF_RANGE", "50"]);
  }
  assert.match(large.message, /target\[99000\] = 50/);
});

test("map adds up to one call over the whole, with large and small items", async () => {
  const [n, c] = [40_000, 64];
  const [x, y] = [logits(n, c), labels(n, c)];
  const whole = await client.crossEntropy(x, y);
  const cuts = [0, 8, 9, 50, 39_000, n];
  const items = cuts
    .slice(1)
    .map((stop, at) => [
      tensor(x.data.subarray(cuts[at] * c, stop * c), [stop - cuts[at], c]),
      y.subarray(cuts[at], stop),
    ]);
  let lossSum = 0;
  for await (const { summary } of client.map("crossEntropy", items)) lossSum += summary.lossSum;
  for await (const value of client.map("softmax", [logits(2, 3)])) assert.deepEqual(value.shape, [2, 3]);

  assert.ok(Math.abs(lossSum - whole.summary.lossSum) < 1e-9 * lossSum);
});

test("the server says its version, dtypes and limits", async () => {
  const info = await client.serverInfo();

  assert.match(info.version, /^\d/);
  assert.ok(info.dtypes.includes("bfloat16") && info.limits.maxMessageBytes > 0 && info.workers >= 1);
});

test("memory stays bounded while 200 MB are streamed", () => {
  const program = path.join(path.dirname(fileURLToPath(import.meta.url)), "memory.mjs");
  const { sentMB, grownMB } = JSON.parse(execFileSync(process.execPath, [program, ADDRESS], { encoding: "utf8" }));

  assert.ok(sentMB >= 200);
  assert.ok(grownMB < 100, `${grownMB} MB more than the array`);
});

test("a program ends by itself once its client is closed", () => {
  const code = `import { Client } from "lossd"; const c = new Client(${JSON.stringify(ADDRESS)}); await c.softmax(new Float32Array(3)); for await (const _ of c.map("softmax", [new Float32Array(3)])); c.close(); console.log("done");`;
  const out = execFileSync(process.execPath, ["--input-type=module", "--eval", code], {
    encoding: "utf8",
    timeout: 20_000,
    cwd: path.dirname(fileURLToPath(import.meta.url)),
  });

  assert.equal(out, "done\n");
});

test("errors are of the package's classes", async () => {
  await assert.rejects(
    client.bce(new Float32Array([2]), new Float32Array([0])),
    (error) =>
      (error instanceof LossdError && error.field === "input" && error.reason === "OUT_OF_BOUNDS") ||
      error.reason === "NOT_A_PROBABILITY",
  );
});
