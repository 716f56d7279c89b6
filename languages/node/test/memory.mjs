// Streams 200 MB and prints how much the process grew meanwhile. usage: node memory.mjs ADDRESS
import { Client, tensor } from "lossd";

const client = new Client(process.argv[2]);
const [n, c] = [52_000, 1000];
const x = tensor(new Float32Array(n * c).fill(0.25), [n, c]);
const y = new BigInt64Array(n);
await client.crossEntropy(tensor(x.data.subarray(0, 4000 * c), [4000, c]), y.subarray(0, 4000)); // all code is loaded
const before = process.memoryUsage().rss;
await client.crossEntropy(x, y);
const peak = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ sentMB: x.data.byteLength / 1e6, grownMB: (peak - before) / 1e6 }));
client.close();
