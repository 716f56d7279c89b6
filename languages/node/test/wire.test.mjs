// The wire format, beside protobufjs on the protos that the package carries.
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import protobuf from "protobufjs";

import * as contract from "../dist/contract.js";
import { Malformed } from "../dist/reader.js";

const root = new protobuf.Root();
root.resolvePath = (_, target) =>
  path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../proto", target);
root.loadSync("lossd/v1/service.proto").resolveAll();

const NAMES = Object.keys(contract).filter(
  (name) => contract[name].decode !== undefined && contract[name].name.startsWith("lossd."),
);
const plain = { longs: Number, enums: Number, bytes: Buffer, defaults: false };

// Numbers that a linear congruence makes: the same in every run.
let state = 7;
const random = (below) => (state = (state * 48271) % 2147483647) % below;
const INTEGERS = [0, 1, 127, 128, 300, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1];

function value(field, depth) {
  switch (field.type) {
    case "double":
      return [0, -0, 1.5, -1e300, Infinity, Number.MIN_VALUE][random(6)];
    case "bool":
      return random(2) === 1;
    case "string":
      return ["", "a", "Σ p·log p", "x".repeat(200)][random(4)];
    case "bytes":
      return Buffer.from(Array.from({ length: [0, 1, 130][random(3)] }, () => random(256)));
    case "message":
      return made(field.message(), depth - 1);
    case "enum":
      return random(8);
    case "uint64":
      return INTEGERS[random(INTEGERS.length)];
    case "int32":
      return [0, 5, -1, 2 ** 31 - 1, -(2 ** 31)][random(5)];
    default:
      return random(3) === 0 ? -INTEGERS[1 + random(INTEGERS.length - 1)] : INTEGERS[random(INTEGERS.length)];
  }
}

function made(message, depth) {
  const fields = {};
  for (const field of message.fields) {
    if (random(3) === 0 || (field.message !== undefined && depth === 0)) continue;
    fields[field.name] = field.repeated
      ? Array.from({ length: random(4) }, () => value(field, depth))
      : value(field, depth);
  }
  return fields;
}

/** Members of a oneof displace each other: at most one is kept. */
function withoutRivals(type, fields) {
  const kept = { ...fields };
  for (const one of type.oneofsArray) {
    for (const rival of one.fieldsArray.filter(({ name }) => kept[name] !== undefined).slice(1))
      delete kept[rival.name];
  }
  for (const field of type.fieldsArray) {
    if (!(field.resolvedType instanceof protobuf.Type) || kept[field.name] === undefined) continue;
    const inner = (one) => withoutRivals(field.resolvedType, one);
    kept[field.name] = field.repeated ? kept[field.name].map(inner) : inner(kept[field.name]);
  }
  return kept;
}

/** protobufjs has an Any of its own, with the proto's names. */
function theirNames(fields) {
  if (Array.isArray(fields)) return fields.map(theirNames);
  if (fields === null || typeof fields !== "object" || ArrayBuffer.isView(fields)) return fields;
  return Object.fromEntries(
    Object.entries(fields).map(([name, one]) => [name === "typeUrl" ? "type_url" : name, theirNames(one)]),
  );
}

for (const name of NAMES) {
  test(`${contract[name].name} is written and read as protobufjs does`, () => {
    const type = root.lookupType(contract[name].name);
    for (let round = 0; round < 40; round++) {
      const fields = withoutRivals(type, made(contract[name], 3));
      const bytes = contract[name].encode(fields);

      const theirs = type.toObject(type.decode(bytes), plain);
      assert.deepEqual(theirs, type.toObject(type.fromObject(theirNames(fields)), plain));
      const read = contract[name].decode(type.encode(type.fromObject(theirNames(fields))).finish());
      const full = { ...plain, defaults: true }; // what is read has its zeros
      assert.deepEqual(
        type.toObject(type.decode(contract[name].encode(read)), full),
        type.toObject(type.decode(bytes), full),
      );
    }
  });
}

test("int64 is exact to the ends of 64 bits as a bigint, and -100 is written in ten bytes", () => {
  for (const ignoreIndex of [-100, 0, 2n ** 63n - 1n, -(2n ** 63n)]) {
    const bytes = contract.NLLRequest.encode({ ignoreIndex });
    assert.equal(String(root.lookupType("lossd.v1.NLLRequest").decode(bytes).ignoreIndex), String(ignoreIndex));
  }
  assert.equal(contract.NLLRequest.encode({ ignoreIndex: -100 }).length, 12);
  assert.equal(contract.NLLRequest.decode(contract.NLLRequest.encode({ ignoreIndex: -100 })).ignoreIndex, -100);
});

test("fields of a newer server are passed over, whatever their wire type", () => {
  const unknown = Buffer.from([
    0xf8, 0x7f, 0x96, 0x01, 0xf9, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 0x7f, 2, 9, 9, 0xfd, 0x7f, 1, 2, 3, 4,
  ]);
  const known = contract.Summary.encode({ lossSum: 2, count: 3 });

  assert.deepEqual(contract.Summary.decode(Buffer.concat([unknown, known, unknown])), {
    lossSum: 2,
    weightSum: 0,
    count: 3,
  });
});

test("bytes that are cut short, or say that they are longer, are Malformed and nothing else", () => {
  const whole = contract.StreamResponse.encode({
    block: {
      evaluationId: 300,
      firstItem: 5,
      loss: { dtype: 22, shape: [2], data: Buffer.alloc(8) },
      outputs: { lse: { dtype: 22, shape: [1], data: Buffer.alloc(4) } },
    },
  });
  for (let length = 1; length < whole.length; length++) {
    assert.throws(() => contract.StreamResponse.decode(whole.subarray(0, length)), Malformed);
  }
  for (let round = 0; round < 5000; round++) {
    const broken = Buffer.from(whole);
    broken[random(whole.length)] = random(256);
    try {
      contract.StreamResponse.decode(broken);
    } catch (error) {
      assert.ok(error instanceof Malformed, String(error));
    }
  }
});
