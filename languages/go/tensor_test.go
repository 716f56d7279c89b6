package lossd

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// A tensor is its slice: the same memory in and out, for every type.
func TestTensorsShareMemory(t *testing.T) {
	x := []float32{1, 2, 3, 4, 5, 6}
	tensor := Float32(x, 2, 3)
	x[5] = 7
	if got := tensor.Float32(); got[5] != 7 || &got[0] != &x[0] || !reflect.DeepEqual(tensor.Shape(), []int{2, 3}) {
		t.Error(got, tensor.Shape())
	}
	for _, one := range []struct{ got, want any }{
		{Bool([]bool{true, false}, 2).Bool(), []bool{true, false}},
		{Uint8([]uint8{1, 255}, 2).Uint8(), []uint8{1, 255}},
		{Int8([]int8{-1, 2}, 2).Int8(), []int8{-1, 2}},
		{Int16([]int16{-1, 2}, 2).Int16(), []int16{-1, 2}},
		{Int32([]int32{-1, 2}, 2).Int32(), []int32{-1, 2}},
		{Int64([]int64{-1, 2}, 2).Int64(), []int64{-1, 2}},
		{Int([]int{-1, 2}, 2).Int64(), []int64{-1, 2}},
		{Float64([]float64{-1, 2}, 2).Float64(), []float64{-1, 2}},
		{Float16([]uint16{0x3c00}, 1).Bits16(), []uint16{0x3c00}},
		{BFloat16([]uint16{0x3f80}, 1).Bits16(), []uint16{0x3f80}},
		{Float8E4M3FN([]uint8{0x38}, 1).Bits8(), []uint8{0x38}},
		{Float8E5M2([]uint8{0x3c}, 1).Bits8(), []uint8{0x3c}},
		{Float32(nil, 0, 3).Float32(), []float32{}},
		{Float32([]float32{5}).Floats(), []float64{5}},
	} {
		if !reflect.DeepEqual(one.got, one.want) {
			t.Errorf("%v, not %v", one.got, one.want)
		}
	}
}

// Memory that is not aligned is copied.
func TestTensorsAreAligned(t *testing.T) {
	memory := make([]byte, 17)
	for offset := 0; offset < 8; offset++ {
		copy(memory[offset:], []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f})
		if got := Raw(Float64Type, memory[offset:offset+8], 1).Float64(); got[0] != 1 {
			t.Error(offset, got)
		}
	}
}

// Shapes that do not fit are an error of the call, with the server's reason; the greatest sizes do not overflow.
func TestTensorsThatDoNotFit(t *testing.T) {
	x := make([]float32, 6)
	for reason, tensors := range map[string][]*Tensor{
		"LENGTH_MISMATCH": {Float32(x, 2, 2), Float32(x), Float32(x, 0), Float32(nil, 1), Raw(Float32Type, make([]byte, 5), 1), Float32(x, 1<<29, 1<<30)},
		"INVALID_SHAPE":   {Float32(x, -2, -3), Float32(x, 1<<31, 1<<31-1), Float32(x, 1<<32, 1<<32), Float32(x, 1<<62, 4), Float32(x, math.MaxInt, math.MaxInt), Float32(nil, 1<<62, 4, 0), Int64([]int64{}, 1<<60, 2)},
		"RANK_TOO_LARGE":  {Float32(x, 1, 1, 1, 1, 1, 1, 1, 1, 6)},
		"UNKNOWN_ENUM":    {Raw(99, nil), Raw(0, nil, 0)},
	} {
		for _, one := range tensors {
			e := BCE(Float32(x, 6), one, nil)
			if e.err == nil || e.err.Reason != reason || e.err.Field != "target" || !e.err.Is(ErrInvalidArgument) {
				t.Errorf("%v, not %s", e.err, reason)
			}
		}
	}
	if e := BCE(Float32(nil, 0, 1<<40), Float32(x, 6), nil); e.err != nil {
		t.Error(e.err)
	}
}

// A misuse panics with a sentence.
func TestTensorsOfAnotherType(t *testing.T) {
	for want, misuse := range map[string]func(){
		"Float64 of a Tensor of float32":                 func() { Float32([]float32{1}).Float64() },
		"Float32 of a nil Tensor":                        func() { new(Result).Gradients.Input.Float32() },
		"Floats of a nil Tensor":                         func() { new(Result).Loss.Value() },
		"Value of a Tensor of shape [2]":                 func() { Float32([]float32{1, 2}, 2).Value() },
		"has 1 elements (4 bytes), but its shape [2] of": func() { Float32([]float32{1}, 2).Float32() },
		"Floats: the tensor has dtype 99":                func() { Raw(99, nil, 0).Floats() },
	} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.Contains(said, want) {
					t.Errorf("%q, not %q", said, want)
				}
			}()
			misuse()
		}()
	}
}

// Small floats are what IEEE 754, bfloat16 and OCP's 8-bit formats say.
func TestFloats(t *testing.T) {
	inf := math.Inf(1)
	for _, one := range []struct {
		got  *Tensor
		want []float64
	}{
		{Float16([]uint16{0, 0x3c00, 0xc000, 0x7bff, 1, 0x03ff, 0x0400, 0x7c00, 0xfc00}, 9), []float64{0, 1, -2, 65504, 0x1p-24, 1023 * 0x1p-24, 0x1p-14, inf, -inf}},
		{BFloat16([]uint16{0x3f80, 0xc040, 0x7f80}, 3), []float64{1, -3, inf}},
		{Float8E4M3FN([]uint8{0x38, 0x7e, 0xfe, 0x78, 1, 0x07, 0x08, 0xb8}, 8), []float64{1, 448, -448, 256, 0x1p-9, 7 * 0x1p-9, 0x1p-6, -1}},
		{Float8E5M2([]uint8{0x3c, 0x7b, 1, 0x7c, 0xfc}, 5), []float64{1, 57344, 0x1p-16, inf, -inf}},
		{Bool([]bool{true, false}, 2), []float64{1, 0}},
		{Int8([]int8{-128}, 1), []float64{-128}}, {Int16([]int16{-3}, 1), []float64{-3}}, {Int32([]int32{4}, 1), []float64{4}},
		{Int64([]int64{5}, 1), []float64{5}}, {Uint8([]uint8{255}, 1), []float64{255}}, {Float32([]float32{.5}, 1), []float64{.5}}, {Float64([]float64{.25}, 1), []float64{.25}},
	} {
		if got := one.got.Floats(); !reflect.DeepEqual(got, one.want) {
			t.Errorf("%v, not %v", got, one.want)
		}
	}
	for _, nan := range []*Tensor{Float16([]uint16{0x7e00}, 1), BFloat16([]uint16{0x7fc0}, 1), Float8E4M3FN([]uint8{0x7f}, 1), Float8E4M3FN([]uint8{0xff}, 1), Float8E5M2([]uint8{0x7e}, 1)} {
		if !math.IsNaN(nan.Floats()[0]) {
			t.Error(nan.Floats())
		}
	}
	if !math.Signbit(Float8E4M3FN([]uint8{0x80}, 1).Value()) {
		t.Error("minus zero")
	}
}
