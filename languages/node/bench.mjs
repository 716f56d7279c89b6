// Calls a second of (8, 16) cross-entropy, and what large calls move. usage: node bench.mjs ADDRESS [SECONDS]
import { Client, tensor } from "lossd";

const [address, seconds = "5"] = process.argv.slice(2);
const client = new Client(address);
const data = (n, c) => Float32Array.from({ length: n * c }, (_, i) => ((i * 7919) % 10007) / 1000 - 5);
const labels = (n, c) => BigInt64Array.from({ length: n }, (_, i) => BigInt((i * 31) % c));
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const x = tensor(data(8, 16), [8, 16]);
const y = labels(8, 16);
for (const concurrency of [1, 32]) {
  for (const measured of [false, true]) {
    const startMs = performance.now();
    const endMs = startMs + (measured ? Number(seconds) : 1) * 1000;
    const cpu = process.cpuUsage();
    let calls = 0;
    await Promise.all(
      Array.from({ length: concurrency }, async () => {
        for (; performance.now() < endMs; calls++) await client.crossEntropy(x, y);
      }),
    );
    const tookS = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    if (measured)
      console.log(
        `crossEntropy (8, 16), ${concurrency} at once: ${(calls / tookS).toFixed(0)} calls/s, ${((user + system) / calls).toFixed(0)} µs of this process each`,
      );
  }
}

function* items(count) {
  for (let at = 0; at < count; at++) yield [x, y];
}
const rates = [];
for (let round = 0; round < 6; round++) {
  const startMs = performance.now();
  let count = 0;
  for await (const _ of client.map("crossEntropy", items(30_000))) count++;
  if (round > 0) rates.push((count / (performance.now() - startMs)) * 1000);
}
console.log(`map of (8, 16): ${median(rates).toFixed(0)} items/s (median of 5 rounds of 30,000)`);

const [n, c] = [50_000, 1000];
const large = tensor(data(n, c), [n, c]);
const classes = labels(n, c);
for (const grad of [false, true]) {
  const rounds = [];
  for (let round = 0; round < 6; round++) {
    const startMs = performance.now();
    await client.crossEntropy(large, classes, { grad });
    if (round > 0) rounds.push((performance.now() - startMs) / 1000);
  }
  const bytes = large.data.byteLength * (grad ? 2 : 1);
  console.log(
    `stream of (${n}, ${c}), 200 MB, ${grad ? "and the gradient back" : "loss only"}: ${(median(rounds) * 1000).toFixed(0)} ms, ${(bytes / median(rounds) / 1e9).toFixed(2)} GB/s (median of 5)`,
  );
}
client.close();
