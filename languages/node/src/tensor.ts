/** Tensors: typed arrays in and out of `lossd.v1.Tensor`. No loop over elements, no change of dtype. */

import { DataType, type WireTensor } from "./contract.js";
import { InternalError, InvalidArgument, shown } from "./errors.js";

export type TypedArray =
  Float32Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array | Uint16Array;

/** "float32", "bfloat16", "int64", … */
export type DType = keyof typeof DataType;

/** The dtypes whose elements lie in such an array; the first is the one meant where none is named. */
export type DTypeOf<A extends TypedArray> = A extends Float32Array
  ? "float32"
  : A extends Float64Array
    ? "float64"
    : A extends BigInt64Array
      ? "int64"
      : A extends Int32Array
        ? "int32"
        : A extends Int16Array
          ? "int16"
          : A extends Int8Array
            ? "int8"
            : A extends Uint16Array
              ? "float16" | "bfloat16"
              : A extends Uint8Array
                ? "uint8" | "bool" | "float8_e4m3fn" | "float8_e5m2"
                : DType;

/** Elements in C order, with their shape; an empty shape is a scalar. */
export interface Tensor<A extends TypedArray = TypedArray> {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: A;
}

/** What a method takes: a tensor, or a typed array, which is one of one dimension. */
export type TensorLike<A extends TypedArray = TypedArray> = Tensor<A> | A;

/** A tensor of a call. bytes: the caller's memory. itemBytes: of one index of dimension 0. */
export interface Operand {
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  readonly itemBytes: number;
}

const MOST_DIMENSIONS = 8;
// Below this a copy costs less than keeping the message that an answer came in.
const COPIED_BYTES = 1 << 16;

// By what an array says of itself: classes differ from one realm (a vm's context) to another.
const DTYPES: Readonly<Record<string, readonly DType[]>> = {
  Float32Array: ["float32"],
  Float64Array: ["float64"],
  BigInt64Array: ["int64"],
  Int32Array: ["int32"],
  Int16Array: ["int16"],
  Int8Array: ["int8"],
  Uint8Array: ["uint8", "bool", "float8_e4m3fn", "float8_e5m2"],
  Uint8ClampedArray: ["uint8"],
  Uint16Array: ["float16", "bfloat16"],
  Float16Array: ["float16"],
};

const ARRAYS = {
  [DataType.bool]: Uint8Array,
  [DataType.uint8]: Uint8Array,
  [DataType.int8]: Int8Array,
  [DataType.int16]: Int16Array,
  [DataType.int32]: Int32Array,
  [DataType.int64]: BigInt64Array,
  [DataType.float8_e4m3fn]: Uint8Array,
  [DataType.float8_e5m2]: Uint8Array,
  [DataType.float16]: Uint16Array,
  [DataType.bfloat16]: Uint16Array,
  [DataType.float32]: Float32Array,
  [DataType.float64]: Float64Array,
} as const;
const NAMES = new Map<number, DType>(Object.entries(DataType).map(([name, number]) => [number, name as DType]));

/** The dtype's name; of one that a newer server has, its number. */
export function dtypeName(dtype: number): string {
  return NAMES.get(dtype) ?? String(dtype);
}

/**
 * The array with a shape: `tensor(new Float32Array(6), [2, 3])`. 16-bit floats are given by their bits, and named:
 * `tensor(new Uint16Array(6), [2, 3], "bfloat16")`; so are "bool" and 8-bit floats in a Uint8Array.
 */
export function tensor<A extends TypedArray>(
  data: A,
  shape: readonly number[],
  ...dtype: A extends Uint16Array ? [dtype: DTypeOf<A>] : [dtype?: DTypeOf<A>]
): Tensor<A> {
  const made = { dtype: dtype[0] ?? meant(data), shape, data };
  const { shape: sizes } = take("tensor", made);
  return { ...made, dtype: made.dtype!, shape: [...sizes] };
}

/** `value` as the operand `field`, or InvalidArgument. */
export function take(field: string, value: unknown): Operand {
  const bare = ArrayBuffer.isView(value);
  const { dtype, shape, data } = bare
    ? { dtype: undefined, shape: undefined, data: value }
    : ((value ?? {}) as Partial<Tensor>);
  const dtypes = DTYPES[tag(data)];
  if (!ArrayBuffer.isView(data) || dtypes === undefined) throw refused(field, value);
  const name = bare ? meant(data) : dtype;
  if (name === undefined || !dtypes.includes(name)) {
    throw new InvalidArgument(
      `${field} is a ${tag(data)}: its dtype must be ${dtypes.map(shown).join(" or ")}, not ${shown(name)}`,
      {
        field,
        reason: NAMES.has(DataType[name!]) ? "DTYPE_NOT_TAKEN" : "UNKNOWN_ENUM",
        metadata: { dtype: String(name) },
      },
    );
  }
  const length = (data as TypedArray).length;
  const sizes = bare ? [length] : checkedShape(field, shape);
  const elements = sizes.reduce((product, size) => product * size, 1);
  if (elements !== length) {
    throw new InvalidArgument(
      `${field} of shape [${sizes.join(", ")}] has ${elements} elements, its data has ${length}`,
      {
        field,
        reason: "LENGTH_MISMATCH",
        metadata: { elements: String(elements), length: String(length) },
      },
    );
  }
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return {
    dtype: DataType[name],
    shape: sizes,
    bytes,
    itemBytes: sizes.length > 0 && sizes[0] !== 0 ? bytes.length / sizes[0]! : 0,
  };
}

/** The tensor of an answer. Its elements are the caller's own: a copy where they are few, or do not lie aligned. */
export function give(message: WireTensor): Tensor {
  return adopt(message.dtype, message.shape, message.data ?? new Uint8Array(0));
}

/** `bytes` as the elements of a tensor. Raises InternalError where they are not. */
export function adopt(dtype: number, shape: readonly number[], bytes: Uint8Array): Tensor {
  const type = ARRAYS[dtype as keyof typeof ARRAYS] as (typeof ARRAYS)[keyof typeof ARRAYS] | undefined;
  const elements = shape.reduce((product, size) => product * size, 1);
  if (type === undefined || elements * type.BYTES_PER_ELEMENT !== bytes.length) {
    throw new InternalError(
      `the answer holds a tensor of dtype ${dtypeName(dtype)}, shape [${shape.join(", ")}] in ${bytes.length} bytes`,
      { reason: "MALFORMED_ANSWER" },
    );
  }
  const lies = bytes.length >= COPIED_BYTES && bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : copied(bytes);
  return { dtype: NAMES.get(dtype)!, shape, data: new type(lies.buffer as ArrayBuffer, lies.byteOffset, elements) };
}

/** Bytes of one element. */
export function elementBytes(dtype: number): number {
  return ARRAYS[dtype as keyof typeof ARRAYS]?.BYTES_PER_ELEMENT ?? 0;
}

// Not by Buffer's slice, which is a view.
function copied(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes.length);
  copy.set(bytes);
  return copy;
}

function checkedShape(field: string, shape: unknown): readonly number[] {
  const sizes = Array.isArray(shape) ? (shape as unknown[]) : [NaN];
  const isLong = sizes.length > MOST_DIMENSIONS;
  if (isLong || !sizes.every((size) => Number.isSafeInteger(size) && (size as number) >= 0)) {
    throw new InvalidArgument(
      `${field} has the shape ${shown(shape)}: it must be an array of at most ${MOST_DIMENSIONS} whole numbers, none negative`,
      { field, reason: isLong ? "RANK_TOO_LARGE" : "INVALID_SHAPE", metadata: { shape: shown(shape) } },
    );
  }
  return sizes as number[];
}

// A Uint16Array's numbers are no dtype of the wire: whose bits they are must be said.
function meant(data: unknown): DType | undefined {
  return tag(data) === "Uint16Array" ? undefined : DTYPES[tag(data)]?.[0];
}

function tag(data: unknown): string {
  return ArrayBuffer.isView(data) ? String((data as TypedArray)[Symbol.toStringTag]) : "";
}

function refused(field: string, value: unknown): InvalidArgument {
  const given = (value as Partial<Tensor> | undefined)?.data ?? value;
  const unsigned = { Uint32Array: "Int32Array", BigUint64Array: "BigInt64Array" }[tag(given)];
  const hint =
    unsigned === undefined
      ? "; tensor(new Float32Array([…]), shape) makes one"
      : `: the wire has no such dtype, use a ${unsigned}`;
  const what =
    given === undefined || given === null
      ? "is missing"
      : `must be a tensor or a typed array, not ${tag(given) || shown(given)}`;
  return new InvalidArgument(`${field} ${what}${hint}`, {
    field,
    reason: given === undefined || given === null ? "MISSING_FIELD" : "NOT_AN_ARRAY",
  });
}
