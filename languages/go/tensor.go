package lossd

import (
	"fmt"
	"math"
	"strings"
	"unsafe"

	pb "lossd/lossdv1"
)

// DType is the type of a tensor's elements.
type DType = pb.DataType

const (
	BoolType         = pb.DataType_DATA_TYPE_BOOL
	Uint8Type        = pb.DataType_DATA_TYPE_UINT8
	Int8Type         = pb.DataType_DATA_TYPE_INT8
	Int16Type        = pb.DataType_DATA_TYPE_INT16
	Int32Type        = pb.DataType_DATA_TYPE_INT32
	Int64Type        = pb.DataType_DATA_TYPE_INT64
	Float8E4M3FNType = pb.DataType_DATA_TYPE_FLOAT8_E4M3FN
	Float8E5M2Type   = pb.DataType_DATA_TYPE_FLOAT8_E5M2
	Float16Type      = pb.DataType_DATA_TYPE_FLOAT16
	BFloat16Type     = pb.DataType_DATA_TYPE_BFLOAT16
	Float32Type      = pb.DataType_DATA_TYPE_FLOAT32
	Float64Type      = pb.DataType_DATA_TYPE_FLOAT64
)

const maxRank = 8

// Tensor is dense, in C order (the last dimension is contiguous). It shares the memory of the slice it was made of,
// which must not change until the call has returned. A mistake in its making is an error of the call that it is used in.
type Tensor struct {
	wire *pb.Tensor
	err  *Error
}

// Each of these makes a tensor of all the values, without a copy; no shape at all is a scalar's.

func Bool(values []bool, shape ...int) *Tensor       { return of(BoolType, values, shape) }
func Uint8(values []uint8, shape ...int) *Tensor     { return of(Uint8Type, values, shape) }
func Int8(values []int8, shape ...int) *Tensor       { return of(Int8Type, values, shape) }
func Int16(values []int16, shape ...int) *Tensor     { return of(Int16Type, values, shape) }
func Int32(values []int32, shape ...int) *Tensor     { return of(Int32Type, values, shape) }
func Int64(values []int64, shape ...int) *Tensor     { return of(Int64Type, values, shape) }
func Float32(values []float32, shape ...int) *Tensor { return of(Float32Type, values, shape) }
func Float64(values []float64, shape ...int) *Tensor { return of(Float64Type, values, shape) }

// Int is Int64, or Int32 where an int has 32 bits.
func Int(values []int, shape ...int) *Tensor {
	if unsafe.Sizeof(int(0)) == 8 {
		return of(Int64Type, values, shape)
	}
	return of(Int32Type, values, shape)
}

// Of Go's types none is a 16- or 8-bit float: these take their bits.

func Float16(bits []uint16, shape ...int) *Tensor     { return of(Float16Type, bits, shape) }
func BFloat16(bits []uint16, shape ...int) *Tensor    { return of(BFloat16Type, bits, shape) }
func Float8E4M3FN(bits []uint8, shape ...int) *Tensor { return of(Float8E4M3FNType, bits, shape) }
func Float8E5M2(bits []uint8, shape ...int) *Tensor   { return of(Float8E5M2Type, bits, shape) }

// Raw makes a tensor of little-endian bytes, for example of a file that is mapped into memory.
func Raw(dtype DType, data []byte, shape ...int) *Tensor {
	t := &Tensor{wire: &pb.Tensor{Dtype: dtype, Shape: make([]int64, len(shape)), Storage: &pb.Tensor_Data{Data: data}}}
	for i, length := range shape {
		t.wire.Shape[i] = int64(length)
	}
	t.err = check(t.wire)
	return t
}

// check says what the server would: dimensions and lengths, before anything is sent.
func check(t *pb.Tensor) *Error {
	size := sizeOf(t.Dtype)
	if size == 0 {
		return wrong("UNKNOWN_ENUM", fmt.Sprintf(" has dtype %d, which is none of DataType's", t.Dtype), "value", t.Dtype)
	}
	if len(t.Shape) > maxRank {
		return wrong("RANK_TOO_LARGE", fmt.Sprintf(" has %d dimensions, at most %d are taken", len(t.Shape), maxRank), "rank", len(t.Shape))
	}
	count, ok := elements(t.Shape)
	if !ok || count > math.MaxInt64/8 {
		return wrong("INVALID_SHAPE", fmt.Sprintf(" has shape %v: a dimension is negative, or there are too many elements", t.Shape), "shape", t.Shape)
	}
	if expected := count * int64(size); expected != int64(len(t.GetData())) {
		return wrong("LENGTH_MISMATCH",
			fmt.Sprintf(" has %d elements (%d bytes), but its shape %v of %s takes %d", len(t.GetData())/size, len(t.GetData()), t.Shape, name(t.Dtype), count),
			"bytes", len(t.GetData()), "expected", expected)
	}
	return nil
}

// elements is the product of the dimensions; false where one is negative, or it overflows.
func elements(shape []int64) (int64, bool) {
	count, empty := int64(1), false
	for _, length := range shape {
		switch {
		case length < 0 || (length > 0 && count > math.MaxInt64/length):
			return 0, false
		case length == 0:
			empty = true
		default:
			count *= length
		}
	}
	if empty {
		return 0, true
	}
	return count, true
}

func sizeOf(dtype DType) int {
	switch dtype {
	case BoolType, Uint8Type, Int8Type, Float8E4M3FNType, Float8E5M2Type:
		return 1
	case Int16Type, Float16Type, BFloat16Type:
		return 2
	case Int32Type, Float32Type:
		return 4
	case Int64Type, Float64Type:
		return 8
	}
	return 0
}

// name is what people call a dtype: float32.
func name(dtype DType) string {
	return strings.ToLower(strings.TrimPrefix(dtype.String(), "DATA_TYPE_"))
}

type element interface {
	bool | uint8 | int8 | int16 | uint16 | int32 | int64 | int | float32 | float64
}

func of[T element](dtype DType, values []T, shape []int) *Tensor {
	if len(values) == 0 {
		return Raw(dtype, nil, shape...)
	}
	return Raw(dtype, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0]))), shape...)
}

// values is the tensor's memory as a slice of T, copied where it is not aligned for T. It panics, as package reflect
// does, where the tensor is nil (it was not asked for) or has another dtype.
func values[T element](t *Tensor, method string, dtypes ...DType) []T {
	data := t.data(method, dtypes...)
	if len(data) == 0 {
		return []T{}
	}
	size := int(unsafe.Sizeof(*new(T)))
	if uintptr(unsafe.Pointer(&data[0]))%uintptr(size) != 0 {
		aligned := make([]T, len(data)/size)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), len(data)), data)
		return aligned
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&data[0])), len(data)/size)
}

func (t *Tensor) data(method string, dtypes ...DType) []byte {
	if t == nil {
		panic("lossd: " + method + " of a nil Tensor: the call did not ask for it")
	}
	if t.err != nil {
		panic("lossd: " + method + ": " + t.err.on("the tensor").Message)
	}
	for _, dtype := range dtypes {
		if t.wire.Dtype == dtype {
			return t.wire.GetData()
		}
	}
	panic("lossd: " + method + " of a Tensor of " + name(t.wire.Dtype))
}

// The elements, in C order; the slice is the tensor's own memory. They panic where the tensor is nil, or of another dtype.

func (t *Tensor) Bool() []bool       { return values[bool](t, "Bool", BoolType) }
func (t *Tensor) Uint8() []uint8     { return values[uint8](t, "Uint8", Uint8Type) }
func (t *Tensor) Int8() []int8       { return values[int8](t, "Int8", Int8Type) }
func (t *Tensor) Int16() []int16     { return values[int16](t, "Int16", Int16Type) }
func (t *Tensor) Int32() []int32     { return values[int32](t, "Int32", Int32Type) }
func (t *Tensor) Int64() []int64     { return values[int64](t, "Int64", Int64Type) }
func (t *Tensor) Float32() []float32 { return values[float32](t, "Float32", Float32Type) }
func (t *Tensor) Float64() []float64 { return values[float64](t, "Float64", Float64Type) }

// Bits16 are the elements of a 16-bit float tensor, Bits8 of an 8-bit one.

func (t *Tensor) Bits16() []uint16 { return values[uint16](t, "Bits16", Float16Type, BFloat16Type) }
func (t *Tensor) Bits8() []uint8   { return values[uint8](t, "Bits8", Float8E4M3FNType, Float8E5M2Type) }

// DType is the type of the elements.
func (t *Tensor) DType() DType { return t.wire.GetDtype() }

// Shape is the size of each dimension; empty for a scalar.
func (t *Tensor) Shape() []int {
	shape := make([]int, len(t.wire.Shape))
	for i, length := range t.wire.Shape {
		shape[i] = int(length)
	}
	return shape
}

// Value is a scalar's number. It panics where there is not exactly one.
func (t *Tensor) Value() float64 {
	numbers := t.Floats()
	if len(numbers) != 1 {
		panic(fmt.Sprintf("lossd: Value of a Tensor of shape %v: only one number is a Value", t.wire.Shape))
	}
	return numbers[0]
}

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
