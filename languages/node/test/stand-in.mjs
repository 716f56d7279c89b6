// A server of gRPC's own library that answers as a test wants: bytes in, bytes out.
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";

import { Client } from "lossd";
import * as contract from "../dist/contract.js";
import { Message } from "../dist/wire.js";

const AS_IS = (body) => body;

// The library only reads google.rpc's maps: an entry is a message of its own here.
const Entry = new Message("Entry", [
  { number: 1, name: "key", type: "string" },
  { number: 2, name: "value", type: "string" },
]);
const ErrorInfo = new Message("ErrorInfo", [
  { number: 1, name: "reason", type: "string" },
  { number: 2, name: "domain", type: "string" },
  { number: 3, name: "metadata", type: "message", repeated: true, message: () => Entry },
]);

/** Listens on port 0, or at `address`. unary(call, answer) and stream(call) are grpc-js's handlers of bytes. */
export async function standIn({
  unary,
  stream,
  address = "127.0.0.1:0",
  credentials = ServerCredentials.createInsecure(),
  options = {},
}) {
  const server = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1, ...options });
  const calls = [];
  const serve = (name) => (call, answer) => {
    if (name === "GetServerInfo") return answer(null, INFO); // no call of the test's own
    const seen = { rpc: name, metadata: call.metadata.getMap(), deadline: call.getDeadline() };
    calls.push(seen);
    unary({ rpc: name, body: call.request, metadata: seen.metadata, number: calls.length }, answer, call);
  };
  for (const name of ["CrossEntropy", "Entropy", "BCE", "GetServerInfo"])
    server.register(contract.SERVICE + name, serve(name), AS_IS, AS_IS, "unary");
  server.register(
    `${contract.SERVICE}Stream`,
    (call) => {
      calls.push({ rpc: "Stream", metadata: call.metadata.getMap() });
      call.on("error", () => undefined);
      stream(call, calls.length);
    },
    AS_IS,
    AS_IS,
    "bidi",
  );
  const port = await new Promise((resolve, reject) =>
    server.bindAsync(address, credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return {
    address: address.startsWith("unix:") ? address : `127.0.0.1:${port}`,
    calls,
    close: () => server.forceShutdown(),
  };
}

const INFO = contract.GetServerInfoResponse.encode({
  version: "0",
  limits: { maxMessageBytes: 16 << 20, maxItemBytes: 16 << 20, maxDeadlineS: 300 },
  elementwiseGranularity: 4096,
});

/** A CrossEntropyResponse with that loss. */
export function answerOf(loss) {
  return {
    loss: { dtype: contract.DataType.float32, shape: [], data: new Uint8Array(Float32Array.of(loss).buffer) },
    summary: { lossSum: loss, weightSum: 1, count: 1 },
  };
}

/** google.rpc's details, as Any. */
export function details({ reason = "TESTED", metadata = {}, field, retryMs }) {
  const any = (type, value) => ({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value });
  const entries = Object.entries(metadata).map(([key, value]) => ({ key, value }));
  const made = [any("ErrorInfo", ErrorInfo.encode({ reason, domain: "lossd", metadata: entries }))];
  if (field !== undefined)
    made.push(any("BadRequest", contract.BadRequest.encode({ fieldViolations: [{ field, description: "is bad" }] })));
  if (retryMs !== undefined) {
    made.push(
      any(
        "RetryInfo",
        contract.RetryInfo.encode({
          retryDelay: { seconds: Math.floor(retryMs / 1000), nanos: (retryMs % 1000) * 1e6 },
        }),
      ),
    );
  }
  return made;
}

/** A status with details in its trailers, as a handler fails with it. */
export function failure(code, message, said) {
  const metadata = new Metadata();
  if (said !== undefined)
    metadata.set(
      "grpc-status-details-bin",
      contract.Status.encode({ code: status[code], message, details: details(said) }),
    );
  return { code: status[code], details: message, metadata };
}

/** Reads a stream's messages; says answers of it. */
export const read = (body) => contract.StreamRequest.decode(body);
export const say = (call, answer) => call.write(contract.StreamResponse.encode(answer));

/** What `use` makes of a client of a stand-in. */
export async function withServer(handlers, options, use) {
  const server = await standIn(handlers);
  const client = new Client(server.address, options);
  try {
    return await use(client, server);
  } finally {
    client.close();
    server.close();
  }
}

/** A stream's handler that calls `open` for each evaluation that begins. */
export const streaming = (open) => (call, number) => {
  call.on("data", (body) => {
    const message = read(body);
    const opens = message.opens?.opens ?? (message.open === undefined ? [] : [message.open]);
    for (const { evaluationId } of opens) open(evaluationId, call, number);
  });
  call.on("end", () => call.end());
};
