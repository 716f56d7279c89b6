// Many evaluations on one stream, against a stand-in for the server.
import assert from "node:assert/strict";
import { status } from "@grpc/grpc-js";
import { test } from "node:test";

import { Client, InvalidArgument, LossdError, tensor } from "lossd";
import { answerOf, details, failure, read, say, standIn } from "./stand-in.mjs";

const Y = new BigInt64Array(1);

/** The item's number is its first logit. */
const item = (number) => [tensor(Float32Array.of(number, 0), [1, 2]), Y];
function* items(count, told = () => undefined) {
  for (let number = 0; number < count; number++) {
    told(number);
    yield item(number);
  }
}
const numberOf = ({ crossEntropy }) => Buffer.from(crossEntropy.input.data).readFloatLE(0);
const opensOf = (body) => read(body).opens?.opens ?? [];
const answered = (open) => ({ evaluationId: open.evaluationId, crossEntropy: answerOf(numberOf(open)) });
const failed = ({ evaluationId }, code, said) => ({
  evaluationId,
  failure: { evaluationId, code: status[code], message: "no", details: details(said) },
});

/** A server whose streams get each message's Opens. */
async function withStreams(handle, use, options) {
  const streams = [];
  const server = await standIn({
    stream: (call, number) => {
      streams.push(call);
      call.on("data", (body) => handle(opensOf(body), call, number, body));
      call.on("end", () => call.end());
    },
  });
  const client = new Client(server.address, options);
  try {
    return await use(client, streams);
  } finally {
    client.close();
    server.close();
  }
}

async function losses(iteration) {
  const found = [];
  for await (const result of iteration) found.push(result instanceof LossdError ? result.reason : result.loss);
  return found;
}

test("results come in the items' order, whatever that of the answers", () =>
  withStreams(
    (opens, call) => say(call, { results: { results: opens.reverse().map(answered) } }),
    async (client) => {
      const expected = Array.from({ length: 1000 }, (_, number) => number);

      assert.deepEqual(await losses(client.map("crossEntropy", items(1000))), expected);
      assert.deepEqual(await losses(client.map("crossEntropy", items(1000), { window: 3 })), expected);
    },
  ));

test("small items share messages", () => {
  const sizes = [];
  const handle = (opens, call) => {
    sizes.push(opens.length);
    say(call, { results: { results: opens.map(answered) } });
  };
  return withStreams(handle, async (client) => {
    await losses(client.map("crossEntropy", items(1024)));

    assert.ok(sizes.length <= 16, `${sizes.length} messages`);
    assert.equal(Math.max(...sizes), 128);
  });
});

test("items are read at most a window ahead", () => {
  let given = 0;
  let most = 0;
  const told = (number) => (most = Math.max(most, number + 1 - given));
  return withStreams(
    (opens, call) => say(call, { results: { results: opens.map(answered) } }),
    async (client) => {
      for await (const _ of client.map("crossEntropy", items(200, told), { window: 8 })) given++;

      assert.equal(given, 200);
      assert.ok(most <= 9, `${most} ahead`); // one of them is in the loop's hands
    },
  );
});

test("an item that fails raises in its place and ends the iteration, or is yielded", () => {
  const handle = (opens, call) =>
    say(call, {
      results: {
        results: opens.map((open) =>
          numberOf(open) === 2 ? failed(open, "INVALID_ARGUMENT", { reason: "BAD" }) : answered(open),
        ),
      },
    });
  return withStreams(handle, async (client) => {
    const seen = [];
    const run = async () => {
      for await (const { loss } of client.map("crossEntropy", items(5))) seen.push(loss);
    };

    await assert.rejects(run(), InvalidArgument);
    assert.deepEqual(seen, [0, 1]);
    assert.deepEqual(await losses(client.map("crossEntropy", items(5), { errors: "yield" })), [0, 1, "BAD", 3, 4]);
  });
});

test("an item that cannot be sent has its place, too", () =>
  withStreams(
    (opens, call) => say(call, { results: { results: opens.map(answered) } }),
    async (client) => {
      const mixed = [
        item(0),
        [tensor(new Float32Array(2), [1, 2])],
        { input: item(2)[0], target: Y, reductoin: "sum" },
        7,
        item(4),
      ];

      assert.deepEqual(await losses(client.map("crossEntropy", mixed, { errors: "yield" })), [
        0,
        "MISSING_FIELD",
        "UNKNOWN_OPTION",
        "WRONG_TYPE",
        4,
      ]);
    },
  ));

test("an item that a full server refuses is sent again, and others go on meanwhile", () => {
  let refusals = 0;
  const handle = (opens, call) =>
    say(call, {
      results: {
        results: opens.map((open) => {
          const isRefused = numberOf(open) === 1 && refusals < 2;
          if (isRefused) refusals++;
          return isRefused ? failed(open, "RESOURCE_EXHAUSTED", { retryMs: 1 }) : answered(open);
        }),
      },
    });
  return withStreams(handle, async (client) => {
    assert.deepEqual(await losses(client.map("crossEntropy", items(4))), [0, 1, 2, 3]);
    assert.equal(refusals, 2);
  });
});

test("a stream that breaks is opened again with what is unanswered, and the iterable is read once", () => {
  const sent = [];
  const handle = (opens, call, number) => {
    sent.push(...opens.map((open) => [number, numberOf(open)]));
    say(call, { results: { results: opens.filter((open) => number > 1 || numberOf(open) < 3).map(answered) } });
    if (number === 1) call.emit("error", failure("UNAVAILABLE", "restart", { retryMs: 1 }));
  };
  return withStreams(handle, async (client) => {
    let reads = 0;

    assert.deepEqual(
      await losses(
        client.map(
          "crossEntropy",
          items(6, () => reads++),
        ),
      ),
      [0, 1, 2, 3, 4, 5],
    );
    assert.equal(reads, 6);
    assert.ok(sent.filter(([number]) => number === 2).length >= 3);
  });
});

test("async iterables are read as they come, and a slow one is no stream that stands still", () => {
  const slow = async function* () {
    for (let number = 0; number < 3; number++) {
      await new Promise((resolve) => setTimeout(resolve, 120));
      yield item(number);
    }
  };
  return withStreams(
    (opens, call) => say(call, { results: { results: opens.map(answered) } }),
    async (client) => {
      assert.deepEqual(await losses(client.map("crossEntropy", slow(), { timeoutMs: 80 })), [0, 1, 2]);
    },
  );
});

test("what the iterable throws passes through, after the results before it", () =>
  withStreams(
    (opens, call) => say(call, { results: { results: opens.map(answered) } }),
    async (client) => {
      const reason = new Error("the file ended");
      const broken = function* () {
        yield item(0);
        throw reason;
      };
      const seen = [];
      const run = async (from) => {
        for await (const { loss } of client.map("crossEntropy", from)) seen.push(loss);
      };

      await assert.rejects(run(broken()), (error) => error === reason);
      await assert.rejects(
        run(
          (async function* () {
            yield* broken();
          })(),
        ),
        (error) => error === reason,
      );
      assert.deepEqual(seen, [0, 0]);
    },
  ));

test("leaving the loop cancels what is under way and closes the iterable", () => {
  let cancelled;
  const isCancelled = new Promise((resolve) => (cancelled = resolve));
  const handle = (opens, call) => {
    call.on("cancelled", cancelled);
    say(call, { results: { results: opens.filter((open) => numberOf(open) === 0).map(answered) } });
  };
  return withStreams(handle, async (client) => {
    let closed = false;
    const endless = function* () {
      try {
        for (let number = 0; ; number++) yield item(number);
      } finally {
        closed = true;
      }
    };
    for await (const _ of client.map("crossEntropy", endless())) break;

    assert.ok(closed);
    await isCancelled;
  });
});

test("answers that never come end the iteration after its time without progress; an aborted signal at once", () =>
  withStreams(
    () => undefined,
    async (client) => {
      await assert.rejects(losses(client.map("crossEntropy", items(3), { timeoutMs: 200 })), { reason: "NO_PROGRESS" });
      const reason = new Error("enough");
      await assert.rejects(
        losses(client.map("crossEntropy", items(3), { signal: AbortSignal.abort(reason) })),
        (error) => error === reason,
      );
    },
  ));

test("a large item goes in blocks among the others, and its arrays may be changed once the next is read", () => {
  const seen = [];
  const handle = (opens, call, number, body) => {
    const { block, end } = read(body);
    if (block !== undefined) seen.push(Buffer.from(block.input.data).readFloatLE(0));
    if (end !== undefined) say(call, { result: { evaluationId: end.evaluationId, crossEntropy: answerOf(9) } });
    if (opens.length > 0) say(call, { results: { results: opens.map(answered) } });
  };
  return withStreams(handle, async (client) => {
    const data = new Float32Array(3 << 20).fill(7);
    const changing = function* () {
      yield item(0);
      yield [tensor(data, [3, 1 << 20]), new BigInt64Array(3)];
      data.fill(0);
      yield item(1);
    };

    assert.deepEqual(await losses(client.map("crossEntropy", changing())), [0, 9, 1]);
    assert.deepEqual(seen, [7, 7, 7]);
  });
});

for (const [name, verb, from, options, field] of [
  ["an unknown verb", "crossEntrop", [], {}, "verb"],
  ["a window of 0", "crossEntropy", [], { window: 0 }, "window"],
  ["an unknown way with errors", "crossEntropy", [], { errors: "ignore" }, "errors"],
  ["a misspelt option", "crossEntropy", [item(0)], { reductoin: "sum" }, "reductoin"],
  ["no iterable", "crossEntropy", 7, {}, "items"],
]) {
  test(`${name} is refused by map`, () =>
    withStreams(
      () => undefined,
      async (client) => {
        await assert.rejects(
          async () => losses(client.map(verb, from, options)),
          (error) => error instanceof InvalidArgument && error.field === field,
        );
      },
    ));
}
