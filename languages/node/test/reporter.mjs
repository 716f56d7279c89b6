// Says what failed, and last how many passed and failed.
export default async function* report(source) {
  let passed = 0;
  let failed = 0;
  for await (const { type, data } of source) {
    const isFile = data?.name?.endsWith(".test.mjs");
    if (type === "test:pass" && !isFile && data.details?.type !== "suite") passed++;
    if (type === "test:fail" && !isFile && data.details?.type !== "suite") failed++;
    if (type === "test:fail")
      yield `FAILED ${data.file ?? ""} ${data.name}\n${data.details?.error?.cause?.stack ?? data.details?.error}\n`;
    if (type === "test:stderr") yield data.message;
  }
  yield `${passed} passed, ${failed} failed\n`;
}
