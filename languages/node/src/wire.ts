/**
 * Protobuf's wire format, as the tables in contract.ts describe the messages.
 *
 * A message is measured and then written into one buffer, so that a tensor's elements are copied once; what is read are
 * views of the bytes that came. int64 is a number here: sizes and counts are far below 2^53.
 */

import { DELIMITED, FIXED64, Malformed, Reader, VARINT } from "./reader.js";

type Type = "double" | "int32" | "int64" | "uint64" | "bool" | "enum" | "string" | "bytes" | "message" | "map";

export interface Field {
  readonly number: number;
  readonly name: string;
  readonly type: Type;
  readonly repeated?: true;
  /** Absent is not the same as 0. */
  readonly optional?: true;
  readonly message?: () => Message<object>;
  /** An enum's numbers, by the names that people use. */
  readonly values?: Readonly<Record<string, number>>;
}

/** What a message is made from: any of its fields; a message among them may be encoded already. */
export type Init<T> = {
  readonly [K in keyof T]?: NonNullable<T[K]> extends readonly (infer E)[] ? readonly InitOf<E>[] : InitOf<T[K]>;
};
type InitOf<V> = V extends number
  ? number | bigint
  : V extends Uint8Array | string | boolean | undefined
    ? V
    : Init<V> | Uint8Array;

const WIRE_TYPES: Readonly<Record<Type, number>> = {
  double: FIXED64,
  int32: VARINT,
  int64: VARINT,
  uint64: VARINT,
  bool: VARINT,
  enum: VARINT,
  string: DELIMITED,
  bytes: DELIMITED,
  message: DELIMITED,
  map: DELIMITED,
};

export class Message<T extends object> {
  readonly #byNumber = new Map<number, Field>();

  constructor(
    readonly name: string,
    readonly fields: readonly Field[],
  ) {
    for (const field of fields) this.#byNumber.set(field.number, field);
  }

  /** The message's bytes. */
  encode(value: Init<T>): Buffer {
    const buffer = Buffer.allocUnsafe(this.size(value));
    this.write(value, buffer, 0);
    return buffer;
  }

  /** How many bytes `encode` makes. */
  size(value: Init<T>): number {
    let total = 0;
    for (const field of this.fields) {
      const given = (value as Record<string, unknown>)[field.name];
      if (given === undefined) continue;
      const tag = varintSize(field.number << 3);
      if (!field.repeated) total += tag + valueSize(field, given);
      else if (isPacked(field)) total += packedSize(field, given as readonly unknown[], tag);
      else for (const one of given as readonly unknown[]) total += tag + valueSize(field, one);
    }
    return total;
  }

  /** Writes the message into `buffer` from `at` on; where it ends. */
  write(value: Init<T>, buffer: Buffer, at: number): number {
    for (const field of this.fields) {
      const given = (value as Record<string, unknown>)[field.name];
      if (given === undefined) continue;
      const tag = (field.number << 3) | WIRE_TYPES[field.type];
      if (!field.repeated) {
        at = writeValue(field, given, buffer, writeVarint(buffer, at, tag));
      } else if (isPacked(field)) {
        const values = given as readonly unknown[];
        if (values.length === 0) continue;
        at = writeVarint(buffer, at, (field.number << 3) | DELIMITED);
        at = writeVarint(
          buffer,
          at,
          values.reduce<number>((sum, one) => sum + valueSize(field, one), 0),
        );
        for (const one of values) at = writeValue(field, one, buffer, at);
      } else {
        for (const one of given as readonly unknown[])
          at = writeValue(field, one, buffer, writeVarint(buffer, at, tag));
      }
    }
    return at;
  }

  /** The message in `bytes`, whose tensors' elements are views of them. Raises Malformed. */
  decode(bytes: Uint8Array): T {
    return this.read(new Reader(bytes), bytes.length);
  }

  /** The message in the reader's next bytes, up to `end`. */
  read(reader: Reader, end: number): T {
    const message: Record<string, unknown> = {};
    for (const field of this.fields) if (field.optional === undefined) message[field.name] = absent(field);
    while (reader.at < end) {
      const tag = reader.varint();
      const field = this.#byNumber.get(Math.floor(tag / 8));
      if (field === undefined) {
        reader.skip(tag & 7, end);
      } else if (field.repeated && isPacked(field) && (tag & 7) === DELIMITED) {
        const stop = reader.delimited(end);
        while (reader.at < stop) (message[field.name] as unknown[]).push(readValue(field, reader, stop));
      } else if ((tag & 7) !== WIRE_TYPES[field.type]) {
        throw new Malformed(`${this.name}.${field.name} has wire type ${tag & 7}`);
      } else if (field.repeated) {
        (message[field.name] as unknown[]).push(readValue(field, reader, end));
      } else if (field.type === "map") {
        readEntry(message[field.name] as Record<string, string>, reader, reader.delimited(end));
      } else {
        message[field.name] = readValue(field, reader, end);
      }
    }
    if (reader.at !== end) throw new Malformed(`${this.name} ends inside a field`);
    return message as T;
  }
}

function isPacked(field: Field): boolean {
  return WIRE_TYPES[field.type] !== DELIMITED;
}

function absent(field: Field): unknown {
  if (field.repeated) return [];
  switch (field.type) {
    case "map":
      return {};
    case "string":
      return "";
    case "bytes":
      return new Uint8Array(0);
    case "bool":
      return false;
    default:
      return 0;
  }
}

function packedSize(field: Field, values: readonly unknown[], tag: number): number {
  if (values.length === 0) return 0;
  const size = values.reduce<number>((sum, one) => sum + valueSize(field, one), 0);
  return tag + varintSize(size) + size;
}

function valueSize(field: Field, value: unknown): number {
  let size: number;
  switch (field.type) {
    case "double":
      return 8;
    case "bool":
      return 1;
    case "string":
      size = Buffer.byteLength(value as string);
      break;
    case "bytes":
      size = (value as Uint8Array).byteLength;
      break;
    case "message":
      size = value instanceof Uint8Array ? value.byteLength : field.message!().size(value as object);
      break;
    case "map":
      throw new TypeError("maps are only read");
    default:
      return varintSize(value as number | bigint);
  }
  return varintSize(size) + size;
}

function writeValue(field: Field, value: unknown, buffer: Buffer, at: number): number {
  switch (field.type) {
    case "double":
      return buffer.writeDoubleLE(Number(value), at);
    case "bool":
      return writeVarint(buffer, at, value ? 1 : 0);
    case "string": {
      at = writeVarint(buffer, at, Buffer.byteLength(value as string));
      return at + buffer.write(value as string, at);
    }
    case "message":
      if (!(value instanceof Uint8Array)) {
        const message = field.message!();
        return message.write(value as object, buffer, writeVarint(buffer, at, message.size(value as object)));
      }
      return writeBytes(value, buffer, at);
    case "bytes":
      return writeBytes(value as Uint8Array, buffer, at);
    default:
      return writeVarint(buffer, at, value as number | bigint);
  }
}

function writeBytes(bytes: Uint8Array, buffer: Buffer, at: number): number {
  at = writeVarint(buffer, at, bytes.byteLength);
  buffer.set(bytes, at);
  return at + bytes.byteLength;
}

function readValue(field: Field, reader: Reader, end: number): unknown {
  switch (field.type) {
    case "double":
      return reader.double(end);
    case "bool":
      return reader.varint() !== 0;
    case "string":
      return reader.bytes(end).toString();
    case "bytes":
      return reader.bytes(end);
    case "message":
      return field.message!().read(reader, reader.delimited(end));
    case "uint64":
      return reader.varint();
    default:
      return reader.signed();
  }
}

function readEntry(into: Record<string, string>, reader: Reader, end: number): void {
  let key = "";
  let value = "";
  while (reader.at < end) {
    const tag = reader.varint();
    if (tag === 10) key = reader.bytes(end).toString();
    else if (tag === 18) value = reader.bytes(end).toString();
    else reader.skip(tag & 7, end);
  }
  Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
}

function varintSize(value: number | bigint): number {
  if (typeof value === "bigint" || value < 0) {
    let rest = BigInt.asUintN(64, BigInt(value));
    let size = 1;
    while ((rest >>= 7n) > 0n) size++;
    return size;
  }
  let size = 1;
  while (value >= 128) {
    value = Math.floor(value / 128);
    size++;
  }
  return size;
}

function writeVarint(buffer: Buffer, at: number, value: number | bigint): number {
  if (typeof value === "bigint" || value < 0) {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 127n; rest >>= 7n) buffer[at++] = Number(rest & 127n) | 128;
    buffer[at++] = Number(rest);
    return at;
  }
  while (value >= 128) {
    buffer[at++] = (value % 128) | 128;
    value = Math.floor(value / 128);
  }
  buffer[at++] = value;
  return at;
}
