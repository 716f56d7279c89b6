// The package by `require` and by `import`: one and the same.
const assert = require("node:assert/strict");
const required = require("lossd");

(async () => {
  const imported = await import("lossd");
  for (const name of Object.keys(required)) assert.equal(imported[name], required[name], name);
  assert.deepEqual(
    Object.keys(required).sort(),
    Object.keys(imported)
      .filter((name) => !["default", "module.exports", "__esModule"].includes(name))
      .sort(),
  );
  const { Client, tensor } = required;
  const client = new Client(process.argv[2]);
  const { loss } = await client.crossEntropy(tensor(new Float32Array(4), [2, 2]), new BigInt64Array(2));
  assert.equal(loss.toFixed(4), "0.6931");
  await assert.rejects(
    client.crossEntropy(new Float32Array(2), new BigInt64Array(1), { reductoin: "sum" }),
    imported.InvalidArgument,
  );
  client.close();
  console.log(Object.keys(required).sort().join(" "));
})();
