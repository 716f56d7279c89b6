// TLS and identity, against a stand-in with a certificate that is made here.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ServerCredentials } from "@grpc/grpc-js";
import { test } from "node:test";

import { Client } from "lossd";
import { CrossEntropyResponse } from "../dist/contract.js";
import { answerOf, standIn } from "./stand-in.mjs";

const folder = mkdtempSync(path.join(tmpdir(), "lossd-tls-"));
execFileSync(
  "openssl",
  [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "1",
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost,IP:127.0.0.1",
    "-keyout",
    path.join(folder, "key.pem"),
    "-out",
    path.join(folder, "cert.pem"),
  ],
  { stdio: "pipe" },
);
const [cert, key] = ["cert.pem", "key.pem"].map((name) => readFileSync(path.join(folder, name)));
const unary = (_, answer) => answer(null, CrossEntropyResponse.encode(answerOf(1)));
const ask = (client) => client.crossEntropy(new Float32Array(2), new BigInt64Array(1));

async function withTLS(requiresClient, use) {
  const credentials = ServerCredentials.createSsl(cert, [{ private_key: key, cert_chain: cert }], requiresClient);
  const server = await standIn({ unary, credentials });
  try {
    await use(server);
  } finally {
    server.close();
  }
}

test("a ca means TLS, and a token goes with it", () =>
  withTLS(false, async ({ address, calls }) => {
    for (const ca of [cert, cert.toString(), new Uint8Array(cert)]) {
      const client = new Client(address, { ca, token: "secret" });
      assert.equal((await ask(client)).loss, 1);
      client.close();
    }
    assert.equal(calls[0].metadata.authorization, "Bearer secret");
  }));

test("a server that wants a certificate is shown one", () =>
  withTLS(true, async ({ address }) => {
    const client = new Client(address, { ca: cert, cert, key });
    assert.equal((await ask(client)).loss, 1);
    client.close();
    const nobody = new Client(address, { ca: cert, connectTimeoutMs: 300 });
    await assert.rejects(ask(nobody), { name: "Unavailable" });
    nobody.close();
  }));

test("a certificate that nobody vouches for, and TLS on one side only, are Unavailable with what to look at", () =>
  withTLS(false, async ({ address }) => {
    const plain = await standIn({ unary });
    for (const [at, options] of [
      [address, { tls: true }],
      [address, {}],
      [plain.address, { tls: true }],
    ]) {
      const client = new Client(at, { ...options, connectTimeoutMs: 2_000 });
      const error = await ask(client).catch((one) => one);
      assert.equal(error.name, "Unavailable");
      assert.ok(error.reason !== "NOTHING_LISTENS", error.message);
      client.close();
    }
    plain.close();
  }));
