// What a client does about failures, against a stand-in for the server.
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { status } from "@grpc/grpc-js";
import { test } from "node:test";

import { Client, DeadlineExceeded, Overloaded, tensor, Unavailable } from "lossd";
import { CrossEntropyResponse } from "../dist/contract.js";
import { answerOf, details, failure, read, say, standIn, streaming, withServer } from "./stand-in.mjs";

const X = tensor(new Float32Array(6), [2, 3]);
const Y = new BigInt64Array(2);
const OK = CrossEntropyResponse.encode(answerOf(1.5));

for (const [code, said] of [
  ["UNAVAILABLE", { retryMs: 1 }],
  ["UNAVAILABLE", undefined],
  ["RESOURCE_EXHAUSTED", { retryMs: 1 }],
]) {
  test(`${code}${said ? " with RetryInfo" : ""} is asked again until there is an answer`, () =>
    withServer(
      { unary: ({ number }, answer) => (number < 3 ? answer(failure(code, "later", said)) : answer(null, OK)) },
      {},
      async (client, { calls }) => {
        const result = await client.crossEntropy(X, Y);

        assert.equal(result.loss, 1.5);
        assert.equal(calls.length, 3);
      },
    ));

  test(`a stream's evaluation that is ${code}${said ? " with RetryInfo" : ""} is sent again`, () => {
    const refused = (evaluationId, call, number) => {
      if (said === undefined && number < 3) call.emit("error", failure(code, "later"));
      else if (evaluationId < 3 && number < 3)
        say(call, { failure: { evaluationId, code: status[code], message: "later", details: details(said) } });
      else say(call, { result: { evaluationId, crossEntropy: answerOf(2.5) } });
    };
    return withServer({ stream: streaming(refused) }, {}, async (client) => {
      assert.equal((await client.crossEntropy(X, Y, { transport: "stream" })).loss, 2.5);
    });
  });
}

test("what would come after the deadline is not waited for: Overloaded says when", () =>
  withServer(
    { unary: (_, answer) => answer(failure("RESOURCE_EXHAUSTED", "full", { reason: "OVERLOADED", retryMs: 60_000 })) },
    {},
    async (client, { calls }) => {
      const error = await client.crossEntropy(X, Y, { timeoutMs: 10_000 }).catch((one) => one);

      assert.ok(error instanceof Overloaded);
      assert.equal(error.retryAfterMs, 60_000);
      assert.equal(calls.length, 1);
    },
  ));

test("a call that is not answered ends at its deadline, which the server is told", () =>
  withServer({ unary: () => undefined }, { timeoutMs: 300 }, async (client, { calls }) => {
    const startMs = Date.now();

    await assert.rejects(client.crossEntropy(X, Y), DeadlineExceeded);
    assert.ok(calls[0].deadline - startMs <= 400);
  }));

test("a stream that is not answered ends at the call's deadline, or after its time without progress", () =>
  withServer({ stream: streaming(() => undefined) }, { timeoutMs: 300 }, async (client) => {
    await assert.rejects(client.crossEntropy(X, Y, { transport: "stream" }), {
      name: "DeadlineExceeded",
      reason: "NO_PROGRESS",
    });
    await assert.rejects(client.crossEntropy(X, Y, { transport: "stream", timeoutMs: 200 }), {
      name: "DeadlineExceeded",
    });
  }));

test("an aborted call rejects with the signal's reason, and the server hears of it", async () => {
  const never = { timeoutMs: 3_600_000, connectTimeoutMs: 3_600_000 }; // no deadline cancels it instead
  for (const transport of ["unary", "stream"]) {
    let cancelled;
    const isCancelled = new Promise((resolve) => (cancelled = resolve));
    const controller = new AbortController();
    const reason = new Error("no longer");
    const handlers = {
      unary: (_, __, call) => {
        call.on("cancelled", cancelled);
        controller.abort(reason);
      },
      stream: (call) => {
        call.on("cancelled", cancelled);
        call.on("data", () => controller.abort(reason));
      },
    };
    await withServer(handlers, never, async (client) => {
      await assert.rejects(
        client.crossEntropy(X, Y, { transport, signal: controller.signal }),
        (error) => error === reason,
      );
      await isCancelled;
      await assert.rejects(
        client.crossEntropy(X, Y, { transport, signal: controller.signal }),
        (error) => error === reason,
      );
    });
  }
});

test("a stream that breaks is opened again, and sends what is unanswered from its first block", () => {
  const blocks = [];
  const stream = (call, number) =>
    call.on("data", (body) => {
      const message = read(body);
      if (message.block !== undefined) blocks.push([number, message.block.firstItem]);
      if (number === 1 && message.block?.firstItem === 1)
        call.emit("error", failure("UNAVAILABLE", "restart", { retryMs: 1 }));
      if (message.end !== undefined)
        say(call, { result: { evaluationId: message.end.evaluationId, crossEntropy: answerOf(4) } });
    });
  return withServer({ stream }, { blockBytes: 1 }, async (client) => {
    const result = await client.crossEntropy(tensor(new Float32Array(9), [3, 3]), new BigInt64Array(3), {
      transport: "stream",
    });

    assert.equal(result.loss, 4);
    assert.deepEqual(
      blocks.filter(([number]) => number === 2).map(([, first]) => first),
      [0, 1, 2],
    );
  });
});

test("a stream that the server ends without answers is Unavailable at the deadline", () =>
  withServer({ stream: (call) => call.end() }, {}, async (client) => {
    await assert.rejects(
      client.crossEntropy(X, Y, { transport: "stream", timeoutMs: 300 }),
      (error) => error instanceof Unavailable || error instanceof DeadlineExceeded,
    );
  }));

for (const [name, body] of [
  ["bytes that are no message", Buffer.from([255, 1, 2])],
  ["a response without a loss", Buffer.alloc(0)],
]) {
  test(`an answer of ${name} is an InternalError`, () =>
    withServer({ unary: (_, answer) => answer(null, body) }, {}, async (client) => {
      await assert.rejects(client.crossEntropy(X, Y), { name: "InternalError", reason: "MALFORMED_ANSWER" });
    }));
}

test("a stream's answer that is no message ends it with an InternalError", () =>
  withServer({ stream: (call) => call.on("data", () => call.write(Buffer.from([255, 1, 2]))) }, {}, async (client) => {
    await assert.rejects(client.crossEntropy(X, Y, { transport: "stream" }), {
      name: "InternalError",
      reason: "MALFORMED_ANSWER",
    });
  }));

test("blocks of an answer that are missing, or come twice, are an InternalError", async () => {
  const block = (evaluationId, firstItem) => ({
    block: { evaluationId, firstItem, loss: { dtype: 22, shape: [1], data: new Uint8Array(4) } },
  });
  for (const firsts of [[0], [0, 0], [1], [0, 1, 2]]) {
    const stream = streaming((evaluationId, call) => {
      for (const first of firsts) say(call, block(evaluationId, first));
      say(call, { result: { evaluationId, crossEntropy: {} } });
    });
    await withServer({ stream }, {}, async (client) => {
      await assert.rejects(client.crossEntropy(X, Y, { transport: "stream", reduction: "none" }), {
        name: "InternalError",
        reason: "MALFORMED_ANSWER",
      });
    });
  }
});

test("a call says its request's size, the largest answer it takes, and its token", () =>
  withServer(
    { unary: (call, answer) => answer(null, OK) },
    { maxResponseBytes: 12_345_678, token: "secret" },
    async (client, { calls }) => {
      await client.crossEntropy(X, Y);

      const { metadata } = calls[0];
      assert.ok(Number(metadata["lossd-request-bytes"]) > 40);
      assert.equal(metadata["lossd-max-response-bytes"], "12345678");
      assert.equal(metadata.authorization, "Bearer secret");
    },
  ));

test("a Unix socket is an address, absolute or not", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "lossd-node-"));
  const server = await standIn({ unary: (_, answer) => answer(null, OK), address: `unix:${folder}/s` });
  for (const address of [
    server.address,
    server.address.replace("unix:", "unix://"),
    `unix:${path.relative(".", `${folder}/s`)}`,
  ]) {
    const client = new Client(address, { token: "secret" });
    assert.equal((await client.crossEntropy(X, Y)).loss, 1.5);
    client.close();
  }
  server.close();
});

for (const [address, reason] of [
  ["127.0.0.1:1", "NOTHING_LISTENS"],
  ["unix:/nowhere/socket", "NO_SOCKET"],
  ["no-such-host.invalid:1", "NAME_NOT_FOUND"],
]) {
  test(`where nobody has ever answered, ${address} is Unavailable after connectTimeoutMs, with what to do`, async () => {
    const client = new Client(address, { connectTimeoutMs: 1_500 });
    for (const transport of ["unary", "stream"]) {
      await assert.rejects(client.crossEntropy(X, Y, { transport }), { name: "Unavailable", reason });
    }
    client.close();
  });
}

test("a first call that is given up leaves no rejection that nobody handles", async () => {
  const unhandled = [];
  const listen = (reason) => unhandled.push(reason);
  process.on("unhandledRejection", listen);
  const controller = new AbortController();
  const client = new Client("127.0.0.1:1");
  const calls = [
    client.crossEntropy(X, Y, { signal: AbortSignal.abort() }),
    client.crossEntropy(X, Y, { signal: controller.signal }),
    client.crossEntropy(X, Y, { timeoutMs: 1 }),
  ];
  controller.abort();
  const outcomes = await Promise.allSettled(calls);
  client.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  process.off("unhandledRejection", listen);

  assert.deepEqual(
    outcomes.map(({ reason }) => reason.name),
    ["AbortError", "AbortError", "Unavailable"],
  );
  assert.deepEqual(unhandled, []);
});

test("connectTimeoutMs is for connecting: an answer may take longer, and is asked for once", () => {
  const unary = (_, answer) => setTimeout(answer, 400, null, OK);
  return withServer({ unary }, { connectTimeoutMs: 200 }, async (client, { calls }) => {
    const results = await Promise.all([client.crossEntropy(X, Y), client.crossEntropy(X, Y)]);

    assert.deepEqual(
      results.map(({ loss }) => loss),
      [1.5, 1.5],
    );
    assert.equal(calls.length, 2);
  });
});

test("a closed client's calls are Unavailable at once, those under way too", async () => {
  let close;
  const server = await standIn({ unary: () => close(), stream: () => close() });
  for (const transport of ["unary", "stream"]) {
    const client = new Client(server.address);
    close = () => client.close();
    if (transport === "stream") await client.serverInfo();
    await assert.rejects(client.crossEntropy(X, Y, { transport }), { name: "Unavailable", reason: "CLIENT_CLOSED" });
    await assert.rejects(client.crossEntropy(X, Y, { transport }), { name: "Unavailable", reason: "CLIENT_CLOSED" });
    client.close();
  }
  server.close();
});
