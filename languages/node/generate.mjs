// Writes the protos' messages as TypeScript: an interface and a table of fields for each, and a table for each enum.
// usage: node generate.mjs PROTO_FOLDER OUTPUT.ts
import { writeFileSync } from "node:fs";
import path from "node:path";
import protobuf from "protobufjs";

const [protos, output] = process.argv.slice(2);
const ROOTS = ["lossd.v1.StreamRequest", "lossd.v1.StreamResponse", "lossd.v1.GetServerInfoRequest"];
const DETAILS = ["google.rpc.Status", "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"];
const NUMBERS = new Set(["double", "int32", "int64", "uint64"]);

const root = new protobuf.Root();
root.resolvePath = (_, target) => path.join(protos, target);
root.loadSync(["lossd/v1/service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"]).resolveAll();

const messages = new Map(); // names in the code → protobufjs's Types
const enums = new Map();

function visit(type) {
  const name = nameOf(type);
  if (messages.has(name)) return;
  messages.set(name, type);
  for (const field of type.fieldsArray) {
    if (field.resolvedType instanceof protobuf.Type) visit(field.resolvedType);
    else if (field.resolvedType) enums.set(nameOf(field.resolvedType), field.resolvedType);
  }
}

// The wire's Tensor is not the one that users see.
function nameOf(type) {
  return type.name === "Tensor" ? "WireTensor" : type.name === "Limits" ? "WireLimits" : type.name;
}

function typeOf(field) {
  if (field.map) return "Record<string, string>";
  const one =
    field.resolvedType instanceof protobuf.Type
      ? nameOf(field.resolvedType)
      : field.resolvedType || NUMBERS.has(field.type)
        ? "number"
        : field.type === "bytes"
          ? "Uint8Array"
          : field.type;
  return field.repeated ? `readonly ${one}[]` : one;
}

// Absent is not the same as 0: messages, members of a oneof, `optional`.
function mayBeAbsent(field) {
  return !field.repeated && !field.map && (field.resolvedType instanceof protobuf.Type || field.partOf != null);
}

function row(field) {
  const isMessage = field.resolvedType instanceof protobuf.Type;
  const parts = [`number: ${field.id}`, `name: "${protobuf.util.camelCase(field.name)}"`];
  if (field.map) parts.push('type: "map"');
  else parts.push(`type: "${isMessage ? "message" : field.resolvedType ? "enum" : field.type}"`);
  if (field.repeated) parts.push("repeated: true");
  if (mayBeAbsent(field)) parts.push("optional: true");
  if (isMessage) parts.push(`message: () => ${nameOf(field.resolvedType)}`);
  else if (field.resolvedType) parts.push(`values: ${nameOf(field.resolvedType)}`);
  return `  { ${parts.join(", ")} },`;
}

for (const name of [...ROOTS, "lossd.v1.GetServerInfoResponse", ...DETAILS]) visit(root.lookupType(name));

const lines = [
  "// Generated from the protos by generate.mjs: change those, not this.",
  'import { Message } from "./wire.js";',
  "",
];
for (const [name, type] of enums) {
  const prefix = Object.keys(type.values)
    .find((one) => type.values[one] === 0)
    .replace(/UNSPECIFIED$/, "");
  const values = Object.entries(type.values).filter(([, number]) => number !== 0);
  lines.push(`export const ${name} = {`);
  for (const [value, number] of values) lines.push(`  ${value.replace(prefix, "").toLowerCase()}: ${number},`);
  lines.push("} as const;", "");
}
for (const [name, type] of messages) {
  const fields = [...type.fieldsArray].sort((a, b) => a.id - b.id);
  lines.push(`export interface ${name} {`);
  for (const field of fields)
    lines.push(`  ${protobuf.util.camelCase(field.name)}${mayBeAbsent(field) ? "?" : ""}: ${typeOf(field)};`);
  lines.push("}", `export const ${name} = new Message<${name}>("${type.fullName.slice(1)}", [`);
  lines.push(...fields.map(row), "]);", "");
}
const service = root.lookupService("lossd.v1.LossService");
lines.push(`export const SERVICE = "/${service.fullName.slice(1)}/";`);
writeFileSync(output, `${lines.join("\n")}\n`);
