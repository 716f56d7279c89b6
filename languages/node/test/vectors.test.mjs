// The vectors, against the server at LOSSD_TEST_ADDRESS: as calls, in blocks as each vector says, in blocks as the
// library cuts them, and many on one stream.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";

import { Client, InvalidArgument, LossdError } from "lossd";
import { Connection } from "../dist/connection.js";
import * as contract from "../dist/contract.js";
import { Evaluation } from "../dist/evaluation.js";
import { METHODS } from "../dist/request.js";
import { fromResponse } from "../dist/result.js";
import { Retry } from "../dist/retry.js";
import { Session } from "../dist/session.js";
import { isRight, numbersOf } from "./numbers.mjs";

const ADDRESS = process.env.LOSSD_TEST_ADDRESS;
const FOLDER = process.env.LOSSD_TEST_VECTORS;
const ARRAYS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
};
const GRADIENTS = ["input", "target", "weight"];

const client = new Client(ADDRESS);
const cutting = new Client(ADDRESS, { blockBytes: 1 });
const connection = new Connection(ADDRESS, { connectTimeoutMs: 5_000, maxResponseBytes: 2 ** 31 - 1 });
after(() => [client, cutting, connection].forEach((one) => one.close()));

const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
test("there are vectors", () => assert.ok(files.length > 0));
for (const file of files) {
  const { loss, rpc, cases } = JSON.parse(readFileSync(path.join(FOLDER, file)));
  const spoken = [];
  for (const one of cases) {
    const call = messageOf(rpc, one.request);
    const words = wordsOf(loss, one.request);
    test(`${loss}: ${one.name}`, () =>
      check(
        one,
        words === undefined ? () => asMessage(call) : () => client[words.verb](...words.operands, words.options),
      ));
    if (one.stream !== undefined)
      test(`${loss}, in blocks: ${one.name}`, () => check(one, () => inBlocks(call, one.stream)));
    if (words === undefined) continue;
    spoken.push([one, words]);
    if (one.stream !== undefined) {
      test(`${loss}, in the library's blocks: ${one.name}`, () =>
        check(one, () => cutting[words.verb](...words.operands, { ...words.options, transport: "stream" })));
    }
  }
  test(`${loss}: all on one stream`, () => allOnOneStream(spoken));
}

/** A value of an enum, as the library names it: "REDUCTION_SUM" is "sum"; a number, which it does not know, stays. */
function valueName(name, values) {
  return (
    Object.keys(values).find(
      (one) => typeof name === "string" && name.endsWith(`_${one.toUpperCase()}`) && isWhole(name, one),
    ) ?? name
  );
}

function isWhole(name, value) {
  return /^(DATA_TYPE|REDUCTION|GRADIENT|KIND|EMPTY_MEAN|OUTPUT|ACTIVATION_FUNCTION)$/.test(
    name.slice(0, -value.length - 1),
  );
}

/** A request in protobuf's JSON as the library's call, with its message's fields and tensors. */
function messageOf(rpc, request) {
  const method = Object.values(METHODS).find((one) => one.rpc === rpc);
  const fields = {};
  const operands = new Map();
  for (const field of method.request.fields) {
    const value = request[field.name];
    if (value === undefined) continue;
    const numbers = (name) => (typeof name === "number" ? name : (field.values[valueName(name, field.values)] ?? 0));
    if (field.message === undefined) {
      fields[field.name] =
        field.values === undefined
          ? field.type === "double"
            ? Number(value)
            : BigInt(value)
          : Array.isArray(value)
            ? value.map(numbers)
            : numbers(value);
    } else if (field.name === "placements") {
      fields.placements = value.map(({ gradient, sharedMemory }) => ({
        gradient: contract.Gradient[valueName(gradient, contract.Gradient)],
        sharedMemory: placeOf(sharedMemory),
      }));
    } else {
      const bytes = Buffer.from(value.data ?? "", "base64");
      const shape = (value.shape ?? []).map(BigInt);
      const dtype =
        typeof value.dtype === "number"
          ? value.dtype
          : (contract.DataType[valueName(value.dtype, contract.DataType)] ?? 0);
      const elsewhere =
        value.streamed === undefined
          ? value.sharedMemory === undefined
            ? undefined
            : { sharedMemory: placeOf(value.sharedMemory) }
          : { streamed: {} };
      operands.set(field.name, {
        dtype,
        shape: elsewhere || shape.some((size) => size < 0n) ? shape : shape.map(Number),
        bytes,
        itemBytes: bytes.length / (Number(shape[0] ?? 1n) || 1),
        elsewhere,
      });
    }
  }
  const gradients = (fields.gradients ?? []).map((number) => GRADIENTS[number - 1]);
  return { verb: Object.keys(METHODS).find((verb) => METHODS[verb] === method), method, fields, operands, gradients };
}

function placeOf({ token, offset, length }) {
  return { token: Buffer.from(token ?? "", "base64"), offset: BigInt(offset ?? 0), length: BigInt(length ?? 0) };
}

/** The same in the library's own words; undefined where it has none: shared memory, gradients of an activation, an unknown function,
 * half elements. */
function wordsOf(loss, request) {
  const verb = verbOf(loss, request.function);
  if (verb === undefined) return undefined;
  const { function: _, ...rest } = request;
  const options = {};
  for (const [name, value] of Object.entries(rest)) {
    const field = METHODS[verb].request.fields.find((one) => one.name === name);
    if (METHODS[verb].without?.includes(name) || name === "placements") return undefined;
    if (field.message !== undefined) options[name] = tensorOf(value);
    else if (field.values !== undefined)
      options[name === "gradients" ? "grad" : name] = Array.isArray(value)
        ? value.map((one) => valueName(one, field.values))
        : valueName(value, field.values);
    else options[name] = field.type === "double" ? Number(value) : BigInt(value);
    if (options[name] === null) return undefined;
  }
  const operands = METHODS[verb].tensors.map((name) => options[name]);
  for (const name of METHODS[verb].tensors) delete options[name];
  return { verb, operands, options };
}

function verbOf(loss, name = "ACTIVATION_FUNCTION_SOFTMAX") {
  const snake = loss === "activation" ? valueName(name, contract.ActivationFunction) : loss;
  const verb = String(snake).replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return verb in METHODS ? verb : undefined;
}

function tensorOf({ dtype, shape = [], data = "", ...elsewhere }) {
  if (Object.keys(elsewhere).length > 0) return null;
  const name = valueName(dtype, contract.DataType);
  const bytes = Buffer.from(data, "base64");
  const type = ARRAYS[name] ?? Uint8Array;
  if (bytes.length % type.BYTES_PER_ELEMENT !== 0) return null;
  return { dtype: name, shape: shape.map(Number), data: new type(Uint8Array.from(bytes).buffer) };
}

async function asMessage({ verb, method, fields, operands, gradients }) {
  const message = { ...fields };
  for (const [name, { dtype, shape, bytes, elsewhere }] of operands)
    message[name] = { dtype, shape, ...(elsewhere ?? { data: bytes }) };
  const body = method.request.encode(message);
  const answer = await connection.ask(method.rpc, body, new Retry(30_000, true), undefined);
  return fromResponse({ verb, method, fields, operands, gradients }, method.response.decode(answer), 0);
}

async function inBlocks(call, { tensors, blockItems }) {
  const items = Number(call.operands.get("input").shape[0]);
  const session = new Session(connection, new Retry(30_000, true), undefined);
  const evaluation = new Evaluation(call, { items, step: blockItems, streamed: tensors }, undefined);
  try {
    session.add(evaluation);
    while (evaluation.outcome === undefined) await session.changed();
  } finally {
    session.end();
  }
  if (evaluation.outcome instanceof LossdError) throw evaluation.outcome;
  return evaluation.outcome;
}

/** Every case of a verb in one `map`, its options beside its tensors. */
async function allOnOneStream(spoken) {
  for (const verb of new Set(spoken.map(([, words]) => words.verb))) {
    const chosen = spoken.filter(([, words]) => words.verb === verb);
    const items = chosen.map(([, { operands, options }]) => ({
      input: operands[0],
      ...(operands.length > 1 ? { target: operands[1] } : {}),
      ...options,
    }));
    let at = 0;
    for await (const outcome of client.map(verb, items, { errors: "yield" })) {
      await check(chosen[at++][0], () => (outcome instanceof LossdError ? Promise.reject(outcome) : outcome));
    }
    assert.equal(at, chosen.length);
  }
}

async function check(one, evaluate) {
  let result;
  try {
    result = await evaluate();
  } catch (error) {
    if (one.error === undefined) throw error;
    assert.ok(error instanceof InvalidArgument, String(error));
    assert.deepEqual(
      { reason: error.reason, field: error.field },
      { reason: one.error.reason, field: one.error.field },
      error.message,
    );
    return;
  }
  assert.ok(one.error === undefined, "the request should have been refused");
  if ("data" in result) result = { loss: result, grads: {}, outputs: {} }; // an activation is its value
  const { loss, outputs = {}, summary } = one.response;
  same(
    typeof result.loss === "number" ? { dtype: loss.dtype, shape: [], data: [result.loss] } : result.loss,
    loss,
    "loss",
  );
  assert.deepEqual(
    Object.keys(result.grads).sort(),
    GRADIENTS.filter((name) => `${name}Gradient` in one.response).sort(),
  );
  for (const name of Object.keys(result.grads))
    same(result.grads[name], one.response[`${name}Gradient`], `${name}Gradient`);
  assert.deepEqual(Object.keys(result.outputs).sort(), Object.keys(outputs).sort());
  for (const name of Object.keys(outputs)) same(result.outputs[name], outputs[name], name);
  if (summary !== undefined) {
    assert.equal(result.summary.count, summary.count);
    for (const name of ["lossSum", "weightSum"])
      same({ ...summary[name], shape: [], data: [result.summary[name]] }, summary[name], name);
  }
}

function same(got, want, name) {
  assert.equal(valueName(got.dtype, contract.DataType), valueName(want.dtype, contract.DataType), name);
  assert.deepEqual(got.shape.map(Number), want.shape.map(Number), name);
  const numbers = numbersOf({ ...got, dtype: valueName(got.dtype, contract.DataType) });
  assert.equal(numbers.length, want.values.length, name);
  numbers.forEach((value, at) =>
    assert.ok(isRight(value, want.values[at], want), `${name}[${at}] is ${value}, not ${want.values[at]}`),
  );
}
