// Calls on a list of servers until a line comes in, by gRPC's own library and a service config: TARGET CONFIG BODY METHOD.
"use strict";
const path = require("node:path");
const grpc = require(path.join(process.env.NODE_CLIENT, "node_modules/@grpc/grpc-js"));

const [, , target, config, body, expected] = process.argv;
const request = Buffer.from(body, "base64");
const client = new grpc.Client(target, grpc.credentials.createInsecure(), {
  "grpc.service_config": config,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2000,
});
const AT_ONCE = 8;
const counts = { answered: 0, wrong: 0, failed: 0 };
let over = false;
let running = AT_ONCE;
process.stdin.once("data", () => (over = true));

function call() {
  if (over) {
    if (--running === 0) {
      console.log(counts.answered, counts.wrong, counts.failed);
      process.exit(0);
    }
    return;
  }
  const deadline = Date.now() + 60_000;
  client.makeUnaryRequest(
    "/lossd.v1.LossService/CrossEntropy",
    (bytes) => bytes,
    (bytes) => bytes,
    request,
    new grpc.Metadata(),
    { deadline },
    (error, answer) => {
      if (error) {
        if (++counts.failed <= 10) console.log(error.message);
      } else {
        if (++counts.answered === 1) console.log("begun");
        // The loss comes first; the times of the answer are its own.
        if (!answer.subarray(0, 32).toString("hex").includes(expected)) counts.wrong++;
      }
      setImmediate(call);
    },
  );
}
for (let i = 0; i < AT_ONCE; i++) call();
