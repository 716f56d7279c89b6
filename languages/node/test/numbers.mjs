// Numbers of tensors, and when one is right.

const BITS = { float16: [5, 10], bfloat16: [8, 7], float8_e4m3fn: [4, 3], float8_e5m2: [5, 2] };

/** The elements as JavaScript's numbers. */
export function numbersOf({ dtype, data }) {
  const [exponentBits, mantissaBits] = BITS[dtype] ?? [];
  return Array.from(data, (one) =>
    exponentBits === undefined ? Number(one) : floatOf(one, exponentBits, mantissaBits, dtype),
  );
}

function floatOf(bits, exponentBits, mantissaBits, dtype) {
  const sign = bits >> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1);
  const mantissa = bits & ((1 << mantissaBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === (1 << exponentBits) - 1) {
    if (dtype !== "float8_e4m3fn") return mantissa === 0 ? sign * Infinity : NaN;
    if (mantissa === (1 << mantissaBits) - 1) return NaN;
  }
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
}

/** Whether |got − want| ≤ atol + rtol·|want|; NaN is right where it is wanted, an infinity where the same one is. */
export function isRight(got, want, { atol, rtol }) {
  const wanted = Number(want); // "NaN", "Infinity"
  if (Number.isNaN(wanted)) return Number.isNaN(got);
  return got === wanted || Math.abs(got - wanted) <= atol + rtol * Math.abs(wanted);
}
