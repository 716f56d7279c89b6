// The errors of statuses and of failures, wherever they arrive, against a stand-in for the server.
import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import { test } from "node:test";

import { DeadlineExceeded, InternalError, InvalidArgument, NotServed, tensor, TooLarge, Unauthenticated } from "lossd";
import { details, failure, say, streaming, withServer } from "./stand-in.mjs";

const X = tensor(new Float32Array(6), [2, 3]);
const Y = new BigInt64Array(2);

const STATUSES = [
  ["INVALID_ARGUMENT", InvalidArgument],
  ["OUT_OF_RANGE", InvalidArgument],
  ["NOT_FOUND", InvalidArgument],
  ["RESOURCE_EXHAUSTED", TooLarge],
  ["DEADLINE_EXCEEDED", DeadlineExceeded],
  ["UNAUTHENTICATED", Unauthenticated],
  ["PERMISSION_DENIED", Unauthenticated],
  ["UNIMPLEMENTED", NotServed],
  ["INTERNAL", InternalError],
  ["UNKNOWN", InternalError],
];
const SAID = { reason: "TESTED", field: "label_smoothing", metadata: { value: "3", request_id: "r7" } };

for (const [code, kind] of STATUSES) {
  const place = {
    "the status of a call": { unary: (_, answer) => answer(failure(code, "label_smoothing = 3", SAID)) },
    "a Failure of a stream": {
      stream: streaming((evaluationId, call) =>
        say(call, {
          failure: { evaluationId, code: status[code], message: "label_smoothing = 3", details: details(SAID) },
        }),
      ),
    },
    "a result among others": {
      stream: streaming((evaluationId, call) =>
        say(call, {
          results: {
            results: [
              {
                evaluationId,
                failure: { evaluationId, code: status[code], message: "label_smoothing = 3", details: details(SAID) },
              },
            ],
          },
        }),
      ),
    },
    "the status of a stream": { stream: (call) => call.emit("error", failure(code, "label_smoothing = 3", SAID)) },
  };
  for (const [name, handlers] of Object.entries(place)) {
    test(`${code} in ${name} is ${kind.name}, with its reason, field and metadata`, () =>
      withServer(handlers, {}, async (client) => {
        const transport = "unary" in handlers ? "unary" : "stream";
        const error = await client.crossEntropy(X, Y, { transport }).catch((one) => one);

        assert.equal(error.constructor, kind);
        assert.equal(error.message, "label_smoothing = 3");
        const { reason, field, requestId, metadata } = error;
        assert.deepEqual(
          { reason, field, requestId, ...metadata },
          { reason: "TESTED", field: "label_smoothing", requestId: "r7", value: "3", request_id: "r7" },
        );
      }));
  }
}

test("a status that nobody explained says the address and what the code means, with gRPC's words as its cause", () =>
  withServer({ unary: (_, answer) => answer(failure("INTERNAL", "odd")) }, {}, async (client, { address }) => {
    const error = await client.crossEntropy(X, Y).catch((one) => one);

    assert.ok(error instanceof InternalError && error.onTheWay);
    assert.match(error.message, new RegExp(`^${address}: .*INTERNAL`));
    assert.match(error.cause.message, /odd/);
  }));

test("details that cannot be read are as good as none", () =>
  withServer(
    {
      unary: (_, answer) => {
        const odd = failure("INVALID_ARGUMENT", "odd");
        odd.metadata.set("grpc-status-details-bin", Buffer.from([255, 255, 255]));
        answer(odd);
      },
    },
    {},
    async (client) => {
      await assert.rejects(client.crossEntropy(X, Y), {
        name: "InvalidArgument",
        reason: "INVALID_ARGUMENT",
        onTheWay: true,
      });
    },
  ));

