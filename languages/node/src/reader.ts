/** Reader of protobuf's wire format: numbers, and views of bytes, one after the other. */

export const VARINT = 0;
export const FIXED64 = 1;
export const DELIMITED = 2;
export const FIXED32 = 5;

/** The bytes are not those of the message that they should be. */
export class Malformed extends Error {}

export class Reader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** A number that is not negative; above 2^53 the nearest that there is. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let group = 0; group < 10; group++) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined) break;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
    throw new Malformed("a number does not end");
  }

  signed(): number {
    const start = this.at;
    const value = this.varint();
    if (value < 2 ** 63) return value;
    let exact = 0n;
    for (let at = this.at - 1; at >= start; at--) exact = (exact << 7n) | BigInt(this.#bytes[at]! & 127);
    return Number(BigInt.asIntN(64, exact));
  }

  double(end: number): number {
    return this.#bytes.readDoubleLE(this.#after(8, end) - 8);
  }

  /** Where a field with its length before it ends. */
  delimited(end: number): number {
    const length = this.varint();
    if (length > end - this.at) throw new Malformed("a field is longer than its message");
    return this.at + length;
  }

  bytes(end: number): Buffer {
    const stop = this.delimited(end);
    const start = this.at;
    this.at = stop;
    return this.#bytes.subarray(start, stop) as Buffer;
  }

  skip(wireType: number, end: number): void {
    if (wireType === VARINT) this.varint();
    else if (wireType === FIXED64) this.#after(8, end);
    else if (wireType === DELIMITED) this.at = this.delimited(end);
    else if (wireType === FIXED32) this.#after(4, end);
    else throw new Malformed(`there is no wire type ${wireType}`);
  }

  #after(size: number, end: number): number {
    if (size > end - this.at) throw new Malformed("a field is longer than its message");
    return (this.at += size);
  }
}
