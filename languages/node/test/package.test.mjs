// The package as npm packs it, installed into an empty folder: from JavaScript, from TypeScript, and as the page says.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ADDRESS = process.env.LOSSD_TEST_ADDRESS;
// The address that the page names: the reader has a server there.
const PAGES_ADDRESS = "127.0.0.1:50051";

const folder = mkdtempSync(path.join(tmpdir(), "lossd-consumer-"));
const run = (program, ...args) => execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: "pipe" });

function installed() {
  const [{ filename, files }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], {
      cwd: path.dirname(HERE),
      encoding: "utf8",
    }),
  );
  writeFileSync(path.join(folder, "package.json"), '{ "private": true }');
  run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", `./${filename}`);
  cpSync(path.join(HERE, "consumer"), folder, { recursive: true });
  return files.map((file) => file.path);
}
const files = installed();

function compiled(...names) {
  const options = {
    strict: true,
    noEmit: true,
    target: "ES2022",
    lib: ["ES2022"],
    module: "NodeNext",
    types: ["node"],
    skipLibCheck: false,
  };
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: names }));
  return run(path.join(HERE, "../node_modules/.bin/tsc"), "--project", ".");
}

test("the package has its code, its types, the protos and the licence, and nothing else", () => {
  const kinds = files.map((name) => name.replace(/^(dist|proto)\/.*?(\.d\.ts|\.d\.mts|\.js|\.mjs|\.proto)$/, "$1/*$2"));

  assert.deepEqual([...new Set(kinds)].sort(), [
    "LICENSE",
    "README.md",
    "dist/*.d.mts",
    "dist/*.d.ts",
    "dist/*.js",
    "dist/*.mjs",
    "package.json",
    "proto/*.proto",
  ]);
});

test("import and require give the same objects", () => {
  assert.equal(
    run(process.execPath, "both.cjs", ADDRESS).trim(),
    "Client DeadlineExceeded InternalError InvalidArgument LossdError NotServed Overloaded TooLarge Unauthenticated Unavailable tensor",
  );
});

test("TypeScript knows what a result holds, and refuses what is misspelt", () => compiled("types.ts"));

test("a misspelt option does not compile, for that reason", () => {
  writeFileSync(
    path.join(folder, "misspelt.ts"),
    'import { Client } from "lossd";\nvoid new Client().bce(new Float32Array(1), new Float32Array(1), { reductoin: "sum" });\n',
  );

  assert.throws(
    () => compiled("misspelt.ts"),
    (error) => /misspelt\.ts\(2,\d+\): error TS2561: .*'reductoin'.*'reduction'/.test(error.stdout),
  );
});

const page = readFileSync(process.env.LOSSD_TEST_PAGE, "utf8");
const BLOCK = /^```(js|ts)\n(.*?)^```\n(?:\n?^```text\n(.*?)^```$)?/gms;
const blocks = [...page.matchAll(BLOCK)].map(([, language, code, output], at) => ({
  name: `page-${at}.${language === "ts" ? "mts" : "mjs"}`,
  code,
  output,
}));

test("the page has examples", () => assert.ok(blocks.length > 3));
for (const { name, code, output } of blocks) {
  test(`the page's example ${name} runs and prints what stands below it`, () => {
    writeFileSync(path.join(folder, name), code.replaceAll(PAGES_ADDRESS, ADDRESS));
    if (name.endsWith(".mts")) return void compiled(name);
    const printed = run(process.execPath, name);

    if (output !== undefined) assert.equal(printed.trimEnd(), output.trimEnd());
  });
}
