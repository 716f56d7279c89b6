package lossd

import "math"

// Floats are the elements of any dtype as float64, a copy. It panics where the tensor is nil.
func (t *Tensor) Floats() []float64 {
	if t == nil || t.err != nil {
		t.data("Floats")
	}
	switch t.wire.Dtype {
	case Float64Type:
		return append([]float64{}, t.Float64()...)
	case Float32Type:
		return widened(t.Float32(), func(v float32) float64 { return float64(v) })
	case Float16Type:
		return widened(t.Bits16(), func(v uint16) float64 { return ieee(v, 5, 10) })
	case BFloat16Type:
		return widened(t.Bits16(), func(v uint16) float64 { return float64(math.Float32frombits(uint32(v) << 16)) })
	case Float8E5M2Type:
		return widened(t.Bits8(), func(v uint8) float64 { return ieee(uint16(v)<<8, 5, 10) })
	case Float8E4M3FNType:
		return widened(t.Bits8(), e4m3fn)
	case BoolType, Uint8Type:
		return widened(values[uint8](t, "Floats", BoolType, Uint8Type), func(v uint8) float64 { return float64(v) })
	case Int8Type:
		return widened(t.Int8(), func(v int8) float64 { return float64(v) })
	case Int16Type:
		return widened(t.Int16(), func(v int16) float64 { return float64(v) })
	case Int32Type:
		return widened(t.Int32(), func(v int32) float64 { return float64(v) })
	}
	return widened(t.Int64(), func(v int64) float64 { return float64(v) })
}

func widened[T element](from []T, one func(T) float64) []float64 {
	to := make([]float64, len(from))
	for i, v := range from {
		to[i] = one(v)
	}
	return to
}

// ieee is an IEEE 754 number of 1 + exponent + mantissa bits.
func ieee(bits uint16, exponent, mantissa int) float64 {
	sign := 1.0
	if bits>>(exponent+mantissa) != 0 {
		sign = -1
	}
	top, fraction := 1<<exponent-1, int(bits)&(1<<mantissa-1)
	power, bias := int(bits)>>mantissa&top, top>>1
	switch {
	case power == top && fraction != 0:
		return math.NaN()
	case power == top:
		return math.Inf(int(sign))
	case power == 0:
		return sign * math.Ldexp(float64(fraction), 1-bias-mantissa)
	}
	return sign * math.Ldexp(float64(fraction+1<<mantissa), power-bias-mantissa)
}

// e4m3fn has no infinity, and only one NaN of each sign: its greatest exponent is one more of numbers.
func e4m3fn(v uint8) float64 {
	switch {
	case v&0x7f == 0x7f:
		return math.NaN()
	case v&0x78 == 0x78: // the exponent that IEEE 754 keeps for infinity
		return math.Copysign(float64(8+v&7)*32, float64(int8(v))+0.5)
	}
	return ieee(uint16(v), 4, 3)
}
