// What the library refuses before it sends anything.
import assert from "node:assert/strict";
import { test } from "node:test";
import vm from "node:vm";

import { Client, InvalidArgument, LossdError, tensor } from "lossd";

const client = new Client("127.0.0.1:1", { connectTimeoutMs: 100 });
const X = tensor(new Float32Array(6), [2, 3]);
const Y = new BigInt64Array(2);
const P = tensor(new Float32Array(6).fill(0.5), [2, 3]);

/** What a call fails with: once it was to be sent it is Unavailable, for nothing listens. */
const refusal = (call) => call().catch((error) => error.name);

const REFUSED = [
  [
    "a misspelt option",
    () => client.crossEntropy(X, Y, { labelSmooting: 0.1 }),
    "labelSmooting",
    "UNKNOWN_OPTION",
    /did you mean "labelSmoothing"/,
  ],
  [
    "an option as the wire spells it",
    () => client.crossEntropy(X, Y, { label_smoothing: 0.1 }),
    "label_smoothing",
    "UNKNOWN_OPTION",
    /did you mean "labelSmoothing"/,
  ],
  [
    "an option of another loss",
    () => client.bce(P, P, { softcap: 1 }),
    "softcap",
    "UNKNOWN_OPTION",
    /it has weight, reduction, grad/,
  ],
  ["dim of a sigmoid", () => client.sigmoid(X, { dim: 1 }), "dim", "UNKNOWN_OPTION", /no option/],
  ["a gradient of an activation", () => client.softmax(X, { grad: true }), "grad", "UNKNOWN_OPTION", /no option/],
  [
    "the wire's gradients",
    () => client.bce(P, P, { gradients: ["input"] }),
    "gradients",
    "UNKNOWN_OPTION",
    /no option/,
  ],
  ["placements", () => client.bce(P, P, { placements: [] }), "placements", "UNKNOWN_OPTION", /no option/],
  ["a tensor named twice", () => client.bce(P, P, { target: P }), "target", "UNKNOWN_OPTION", /no option/],
  [
    "an unknown reduction",
    () => client.bce(P, P, { reduction: "avg" }),
    "reduction",
    "UNKNOWN_ENUM",
    /must be "none", "mean", "sum" or "batchmean", not "avg"/,
  ],
  [
    "a reduction in capitals",
    () => client.bce(P, P, { reduction: "REDUCTION_SUM" }),
    "reduction",
    "UNKNOWN_ENUM",
    /not "REDUCTION_SUM"/,
  ],
  ["a reduction by number", () => client.bce(P, P, { reduction: 2 }), "reduction", "UNKNOWN_ENUM", /not 2/],
  [
    "an unknown gradient",
    () => client.bce(P, P, { grad: ["inputs"] }),
    "gradients",
    "UNKNOWN_ENUM",
    /did you mean "input"/,
  ],
  ["an unknown kind", () => client.entropy(P, { kind: "logit" }), "kind", "UNKNOWN_ENUM", /did you mean "logits"/],
  ["an unknown output", () => client.crossEntropy(X, Y, { outputs: ["acc"] }), "outputs", "UNKNOWN_ENUM", /"argmax"/],
  ["an unknown emptyMean", () => client.nll(X, Y, { emptyMean: 0 }), "empty_mean", "UNKNOWN_ENUM", /"nan" or "zero"/],
  [
    "an unknown transport",
    () => client.nll(X, Y, { transport: "shared_memory" }),
    "transport",
    "UNKNOWN_ENUM",
    /"auto", "unary" or "stream"/,
  ],
  [
    "a text for a number",
    () => client.crossEntropy(X, Y, { labelSmoothing: "0.1" }),
    "label_smoothing",
    "WRONG_TYPE",
    /must be a number, not "0.1"/,
  ],
  [
    "a fraction for an integer",
    () => client.crossEntropy(X, Y, { ignoreIndex: 0.5 }),
    "ignore_index",
    "WRONG_TYPE",
    /whole number/,
  ],
  [
    "an integer of more than 64 bits",
    () => client.crossEntropy(X, Y, { ignoreIndex: 2n ** 63n }),
    "ignore_index",
    "WRONG_TYPE",
    /64 bits/,
  ],
  [
    "a number for logTarget",
    () => client.klDivergence(X, P, { logTarget: 1 }),
    "log_target",
    "WRONG_TYPE",
    /true or false/,
  ],
  [
    "logTarget against targetKind",
    () => client.klDivergence(X, P, { logTarget: true, targetKind: "counts" }),
    "log_target",
    "CONTRADICTION",
    /"counts"/,
  ],
  ["a timeout of 0", () => client.bce(P, P, { timeoutMs: 0 }), "timeout_ms", "OPTION_OUT_OF_RANGE", /positive/],
  ["options that are no object", () => client.bce(P, P, "mean"), "options", "WRONG_TYPE", /must be an object/],
  ["an array for options", () => client.bce(P, P, [1]), "options", "WRONG_TYPE", /must be an object/],
  ["no target", () => client.bce(P), "target", "MISSING_FIELD", /missing/],
  ["null for an input", () => client.bce(null, P), "input", "MISSING_FIELD", /missing/],
  ["a list for an input", () => client.bce([[1, 2]], P), "input", "NOT_AN_ARRAY", /typed array/],
  ["an ArrayBuffer for an input", () => client.bce(new ArrayBuffer(8), P), "input", "NOT_AN_ARRAY", /typed array/],
  [
    "a DataView for an input",
    () => client.bce(new DataView(new ArrayBuffer(8)), P),
    "input",
    "NOT_AN_ARRAY",
    /DataView/,
  ],
  [
    "unsigned labels of 32 bits",
    () => client.nll(X, new Uint32Array(2)),
    "target",
    "NOT_AN_ARRAY",
    /use an? Int32Array/,
  ],
  [
    "unsigned labels of 64 bits",
    () => client.nll(X, new BigUint64Array(2)),
    "target",
    "NOT_AN_ARRAY",
    /use an? BigInt64Array/,
  ],
  [
    "16-bit floats without a dtype",
    () => client.softmax(new Uint16Array(4)),
    "input",
    "UNKNOWN_ENUM",
    /"float16" or "bfloat16"/,
  ],
  [
    "a shape of other elements",
    () => client.softmax({ dtype: "float32", shape: [2, 4], data: new Float32Array(6) }),
    "input",
    "LENGTH_MISMATCH",
    /8 elements, its data has 6/,
  ],
  [
    "a negative dimension",
    () => client.softmax({ dtype: "float32", shape: [-2, -3], data: new Float32Array(6) }),
    "input",
    "INVALID_SHAPE",
    /none negative/,
  ],
  [
    "a shape that is a number",
    () => client.softmax({ dtype: "float32", shape: 6, data: new Float32Array(6) }),
    "input",
    "INVALID_SHAPE",
    /must be an array/,
  ],
  [
    "a dtype of another array",
    () => client.softmax({ dtype: "float64", shape: [6], data: new Float32Array(6) }),
    "input",
    "DTYPE_NOT_TAKEN",
    /"float32", not "float64"/,
  ],
  ["a weight that is a number", () => client.nll(X, Y, { weight: 2 }), "weight", "NOT_AN_ARRAY", /typed array/],
];
for (const [name, call, field, reason, words] of REFUSED) {
  test(`${name} is refused by the option's or tensor's name`, async () => {
    const error = await call().catch((one) => one);

    assert.ok(error instanceof InvalidArgument && error instanceof LossdError && error instanceof Error, String(error));
    assert.deepEqual([error.field, error.reason], [field, reason]);
    assert.match(error.message, words);
    assert.ok(error.message.length < 300);
  });
}

test("undefined and null options are absent ones", async () => {
  assert.equal(
    await refusal(() => client.crossEntropy(X, Y, { weight: undefined, softcap: null, reduction: undefined })),
    "Unavailable",
  );
  assert.equal(await refusal(() => client.crossEntropy(X, Y, undefined)), "Unavailable");
});

test("arrays of another realm, of shared memory and Buffers are taken", async () => {
  const foreign = vm.runInNewContext("new Float32Array(6)");
  const shared = new Float32Array(new SharedArrayBuffer(24));
  for (const data of [foreign, shared])
    assert.equal(await refusal(() => client.softmax(tensor(data, [2, 3]))), "Unavailable");
  assert.equal(await refusal(() => client.nll(X, Buffer.from([0, 1]))), "Unavailable");
});

for (const [what, make, field, words] of [
  ["a tensor of another length", () => tensor(new Float32Array(5), [2, 3]), "tensor", /6 elements, its data has 5/],
  ["a tensor of a list", () => tensor([1, 2], [2]), "tensor", /typed array/],
  ["a tensor of nine dimensions", () => tensor(new Float32Array(1), Array(9).fill(1)), "tensor", /at most 8/],
  ["an unknown dtype", () => tensor(new Uint16Array(1), [1], "half"), "tensor", /"float16" or "bfloat16", not "half"/],
  ["a client's misspelt option", () => new Client("localhost", { timeout: 5 }), "timeout", /did you mean "timeoutMs"/],
  [
    "a client's timeout that is no number",
    () => new Client("localhost", { timeoutMs: "5" }),
    "timeout_ms",
    /positive, finite/,
  ],
  ["an infinite timeout", () => new Client("localhost", { timeoutMs: Infinity }), "timeout_ms", /finite/],
  [
    "a largest answer of 0 bytes",
    () => new Client("localhost", { maxResponseBytes: 0 }),
    "max_response_bytes",
    /from 1/,
  ],
  ["a URL", () => new Client("http://localhost:50051"), "address", /An address is host:port/],
  ["an address with blanks", () => new Client(" localhost:50051"), "address", /host:port/],
  ["an empty address", () => new Client(""), "address", /host:port/],
  ["a port that is no number", () => new Client("localhost:http"), "address", /host:port/],
  ["a port of 0", () => new Client("localhost:0"), "address", /between 1 and 65535/],
  ["several addresses", () => new Client("a:1,b:2"), "address", /host:port/],
  ["a number for an address", () => new Client(50051), "address", /is not text/],
  ["a socket without a path", () => new Client("unix:"), "address", /no path/],
  [
    "a token over the network in the clear",
    () => new Client("lossd.example:50051", { token: "t" }),
    "token",
    /by TLS only/,
  ],
  ["a certificate without its key", () => new Client("localhost", { tls: true, cert: "x" }), "key", /both/],
  ["authorities without TLS", () => new Client("localhost", { tls: false, ca: "x" }), "tls", /are for TLS/],
  ["a token with a line end", () => new Client("localhost", { token: "a\nb" }), "token", /visible/],
]) {
  test(`${what} is refused where it is made`, () => {
    assert.throws(
      make,
      (error) => error instanceof InvalidArgument && error.field === field && words.test(error.message),
    );
  });
}

test("every form of an address is taken, with the port of lossd where it has none", () => {
  const forms = [
    "localhost",
    "localhost:1",
    "127.0.0.1",
    "[::1]",
    "[::1]:50051",
    "dns:///lossd.internal:50051",
    "unix:lossd.sock",
    "unix:/run/lossd.sock",
  ];
  for (const form of forms) new Client(form).close();
});
