// One call, alone and in a stream, by whom and to whom the arguments or the environment say.
// usage: node ask.mjs ADDRESS [ca=FILE] [cert=FILE key=FILE] [token=TOKEN | token_file=FILE] [tls=true]
import { readFileSync } from "node:fs";

import { Client, tensor } from "lossd";

const [address, ...given] = process.argv.slice(2);
try {
  const options = { timeoutMs: 3_000, connectTimeoutMs: 1_000 };
  for (const one of given) {
    const [name, value] = one.split(/=(.*)/s);
    if (name === "tls") options.tls = value === "true";
    else if (name === "token") options.token = value;
    else if (name === "token_file") options.tokenFile = value;
    else options[name] = readFileSync(value);
  }
  const client = new Client(address, options);
  const pair = [tensor(new Float32Array([2, 0, -1, 0, 3, 0]), [2, 3]), new BigInt64Array([0n, 1n])];
  const alone = (await client.crossEntropy(...pair)).loss;
  for await (const { loss } of client.map("crossEntropy", [pair])) {
    console.log(`loss ${alone.toFixed(6)}, streamed ${loss.toFixed(6)}`);
  }
  client.close();
} catch (error) {
  console.log(`${error.name} ${error.reason} ${error.message}`);
  process.exitCode = 1;
}
