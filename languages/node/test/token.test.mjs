// A token in a file, which is read for each call, so that one that is replaced needs no new client.
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { Client, InvalidArgument } from "lossd";
import { CrossEntropyResponse } from "../dist/contract.js";
import { answerOf, say, standIn, streaming } from "./stand-in.mjs";

const folder = mkdtempSync(path.join(tmpdir(), "lossd-token-"));
const tokenFile = path.join(folder, "token");
const write = (content) => writeFileSync(tokenFile, content);
const LOCAL = "127.0.0.1:1";
const HANDLERS = {
  unary: (_, answer) => answer(null, CrossEntropyResponse.encode(answerOf(1))),
  stream: streaming((evaluationId, call) => say(call, { result: { evaluationId, crossEntropy: answerOf(1) } })),
};
const PAIR = [new Float32Array(2), new BigInt64Array(1)];

/** What a call, and a stream, of `client` show of the caller. */
async function shownBy(client, { calls }) {
  await client.crossEntropy(...PAIR);
  for await (const { loss } of client.map("crossEntropy", [PAIR])) assert.equal(loss, 1);
  return calls.splice(0).map(({ rpc, metadata }) => `${rpc}: ${metadata.authorization}`);
}

/** Runs `use` with these variables alone. */
async function withVariables(variables, use) {
  for (const [name, value] of Object.entries(variables)) process.env[name] = value;
  try {
    await use();
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
  }
}

test("a call, and a stream, shows what the file holds when it begins", async () => {
  write("first\n");
  const server = await standIn(HANDLERS);
  const client = new Client(server.address, { tokenFile });
  assert.deepEqual(await shownBy(client, server), ["CrossEntropy: Bearer first", "Stream: Bearer first"]);
  write("other");
  assert.deepEqual(await shownBy(client, server), ["CrossEntropy: Bearer other", "Stream: Bearer other"]);
  writeFileSync(path.join(folder, "next"), " last==\r\n");
  renameSync(path.join(folder, "next"), tokenFile);
  assert.deepEqual(await shownBy(client, server), ["CrossEntropy: Bearer last==", "Stream: Bearer last=="]);
  client.close();
  server.close();
});

test("a file that had a token and has none changes nothing", async () => {
  write("first");
  const server = await standIn(HANDLERS);
  const client = new Client(server.address, { tokenFile });
  for (const spoil of [() => write(""), () => write("one\ntwo"), () => rmSync(tokenFile)]) {
    spoil();
    assert.deepEqual(await shownBy(client, server), ["CrossEntropy: Bearer first", "Stream: Bearer first"]);
  }
  client.close();
  server.close();
});

for (const [what, content, words] of [
  ["an empty file", "", /is empty/],
  ["a line end alone", "\n", /is empty/],
  ["two tokens", "secret\nsecret", /something else/],
  ["what is not text", "secret\0", /something else/],
  ["a file without an end", "secret".repeat(4_000), /something else/],
]) {
  test(`${what} is refused by the file's name, and not shown`, () => {
    write(content);
    assert.throws(
      () => new Client(LOCAL, { tokenFile }),
      (error) =>
        error instanceof InvalidArgument &&
        error.field === "token_file" &&
        error.reason === "UNREADABLE_FILE" &&
        error.message.includes(tokenFile) &&
        words.test(error.message) &&
        !error.message.includes("secret"),
    );
  });
}

test("a file that cannot be read is named, and so is what is no path", () => {
  for (const [given, words] of [
    [path.join(folder, "nowhere"), /nowhere" cannot be read/],
    [folder, /" cannot be read/],
    ["", /must be a path/],
    [5, /must be a path/],
  ]) {
    assert.throws(
      () => new Client(LOCAL, { tokenFile: given }),
      (error) => error instanceof InvalidArgument && error.field === "token_file" && words.test(error.message),
    );
  }
});

test("token and tokenFile are one question: both are too many, either stands before both variables", async () => {
  write("held");
  const both = { name: "InvalidArgument", field: "token_file", message: /token or tokenFile .* not both/ };
  assert.throws(() => new Client(LOCAL, { token: "t", tokenFile }), both);
  assert.throws(() => new Client("lossd.example:50051", { tokenFile }), { field: "token_file", message: /by TLS only/ });
  const server = await standIn(HANDLERS);
  const shows = async (options, token) => {
    const client = new Client(server.address, options);
    assert.deepEqual(await shownBy(client, server), [`CrossEntropy: Bearer ${token}`, `Stream: Bearer ${token}`]);
    client.close();
  };
  await withVariables({ LOSSD_TOKEN_FILE: tokenFile }, async () => {
    await shows({}, "held");
    await shows({ token: "given" }, "given");
  });
  await withVariables({ LOSSD_TOKEN: "t", LOSSD_TOKEN_FILE: tokenFile }, async () => {
    await shows({ tokenFile }, "held");
    assert.throws(() => new Client(LOCAL), both);
  });
  server.close();
});
