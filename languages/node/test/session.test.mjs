// How a session writes, on a stand-in for gRPC's stream whose writes end when the test says so.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";

import { tensor } from "lossd";
import { StreamResponse } from "../dist/contract.js";
import { Evaluation } from "../dist/evaluation.js";
import { build } from "../dist/request.js";
import { Retry } from "../dist/retry.js";
import { Session } from "../dist/session.js";
import { answerOf, read } from "./stand-in.mjs";

class HeldStream extends EventEmitter {
  written = [];
  #held = [];

  write(body, done) {
    this.written.push(read(body));
    this.#held.push(done);
  }

  release() {
    this.#held.shift()();
  }

  end() {}
  cancel() {}
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

function opened(items, step) {
  const stream = new HeldStream();
  const connection = { stream: () => stream, explain: (error) => error };
  const session = new Session(connection, new Retry(10_000, false), undefined);
  const call = build("crossEntropy", [tensor(new Float32Array(items * 4), [items, 4]), new BigInt64Array(items)], {
    grad: true,
  });
  const evaluation = new Evaluation(call, { items, step, streamed: ["input"] }, undefined);
  session.add(evaluation);
  return { stream, session, evaluation };
}

test("at most two messages are made before the wire has taken one", async () => {
  const { stream, session } = opened(10, 1);
  await turn();
  assert.equal(stream.written.length, 2);
  for (let taken = 1; taken <= 5; taken++) {
    stream.release();
    assert.equal(stream.written.length, 2 + taken);
  }
  session.end();
});

test("answers are taken while blocks are still to be written, and an evaluation that failed is sent no further", async () => {
  const { stream, session, evaluation } = opened(10, 1);
  await turn();
  stream.emit(
    "data",
    StreamResponse.encode({
      failure: { evaluationId: 1, code: 3, message: "input has NaN", details: [] },
    }),
  );
  await session.changed();
  stream.release();
  stream.release();

  assert.equal(evaluation.outcome.message, "input has NaN");
  assert.equal(stream.written.length, 2);
  session.end();
});

test("an evaluation's messages are its Open, its blocks in order, and its End", async () => {
  const { stream, session, evaluation } = opened(5, 2);
  await turn();
  while (stream.written.at(-1).end === undefined) stream.release();

  assert.deepEqual(
    stream.written.map(
      ({ open, block, end }) => (open && "open") ?? (block && [block.firstItem, block.input.shape]) ?? (end && "end"),
    ),
    ["open", [0, [2, 4]], [2, [2, 4]], [4, [1, 4]], "end"],
  );
  assert.equal(stream.written[0].open.crossEntropy.input.data, undefined);
  assert.deepEqual(stream.written[0].open.crossEntropy.input.streamed, {});
  assert.equal(stream.written[0].open.crossEntropy.target.data.length, 40);
  stream.emit("data", StreamResponse.encode({ result: { evaluationId: 1, crossEntropy: answerOf(1) } }));
  await session.changed();
  assert.equal(evaluation.outcome.loss, 1);
  session.end();
});
