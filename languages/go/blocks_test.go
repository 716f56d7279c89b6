package lossd

import (
	"context"
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "lossd/lossdv1"
)

// Blocks are whole items in order, about 1 MiB each, and End follows the last.
func TestBlocks(t *testing.T) {
	leavesNothing(t)
	var next, sizes int64
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return blocks(s, func(b *pb.Block) error {
			if b.FirstItem != next || len(b.Input.GetData()) > blockBytes {
				t.Error(b.FirstItem, next, len(b.Input.GetData()))
			}
			next += b.Input.Shape[0]
			sizes++
			return nil
		})
	}}
	r, err := dial(t, f.serve(t), nil).Evaluate(background, large(161))
	if err != nil || r.Loss.Value() != 3 || next != 161 || sizes != 9 {
		t.Error(r, err, next, sizes)
	}
}

// A stream that breaks is begun anew while it comes further each time.
func TestBlocksAgain(t *testing.T) {
	leavesNothing(t)
	f := &fake{}
	f.stream = func(s pb.LossService_StreamServer) error {
		last := f.calls.Load()
		return blocks(s, func(b *pb.Block) error {
			if b.FirstItem >= 40*last && last < 3 {
				return refusal(codes.Unavailable, time.Millisecond)
			}
			return nil
		})
	}
	r, err := dial(t, f.serve(t), nil).Evaluate(background, large(256))
	if err != nil || r.Loss.Value() != 3 || f.calls.Load() != 3 {
		t.Error(r, err, f.calls.Load())
	}
}

// What the client has sent and the server has not read is bounded.
func TestBlocksWaitForTheServer(t *testing.T) {
	leavesNothing(t)
	c := dial(t, stuck().serve(t), nil)
	e := large(1600)
	info, err := c.ServerInfo(background)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := e.plan(info, 16<<20)
	ctx, cancel := context.WithTimeout(background, 500*time.Millisecond)
	defer cancel()

	_, far, err := c.attemptInBlocks(ctx, p, e.opening(p), &assembly{})
	if err == nil || far > 4 {
		t.Error(far, err)
	}
}

// 200 MiB, which are not in Go's heap, are streamed within 64 MiB of it: the client's and the fake server's together.
func TestBlocksInBoundedMemory(t *testing.T) {
	const size = 200 << 20
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(memory)
	var most, seen uint64
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return blocks(s, func(b *pb.Block) error {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			if seen += uint64(len(b.Input.GetData())); stats.HeapAlloc > most {
				most = stats.HeapAlloc
			}
			return nil
		})
	}}
	c := dial(t, f.serve(t), nil)
	runtime.GC()
	if _, err := c.Entropy(background, Raw(Float32Type, memory, size>>16, 1<<14), nil); err != nil {
		t.Fatal(err)
	}
	if seen != size || most > 64<<20 {
		t.Errorf("%d bytes, %d MiB of heap", seen, most>>20)
	}
}

// Blocks of an answer that are not what was asked for are an error.
func TestMalformedBlocks(t *testing.T) {
	tensor := func(rows, columns int) *pb.Tensor { return Float32(make([]float32, rows*columns), rows, columns).wire }
	end := resultOf(&pb.EntropyResponse{Loss: Float32([]float32{3}).wire})
	block := func(first int64, gradient *pb.Tensor) *pb.StreamResponse {
		return &pb.StreamResponse{Message: &pb.StreamResponse_Block{Block: &pb.BlockResult{EvaluationId: 1, FirstItem: first, InputGradient: gradient}}}
	}
	for name, sent := range map[string][]*pb.StreamResponse{
		"a gap":            {block(1, tensor(1, 4)), end},
		"too many":         {block(0, tensor(200, 4)), end},
		"too few":          {block(0, tensor(1, 4)), end},
		"none":             {block(0, tensor(0, 4)), end},
		"too wide":         {block(0, tensor(1, 1<<20)), end},
		"another width":    {block(0, tensor(1, 4)), block(1, tensor(1, 5)), end},
		"too short":        {block(0, &pb.Tensor{Dtype: Float32Type, Shape: []int64{1, 4}}), end},
		"no response":      {{Message: &pb.StreamResponse_Result{Result: &pb.EvaluationResult{EvaluationId: 1}}}},
		"dimensions below": {block(0, &pb.Tensor{Dtype: Float32Type, Shape: []int64{-1, 4}}), end},
	} {
		f := &fake{stream: func(s pb.LossService_StreamServer) error {
			for _, one := range sent {
				s.Send(one)
			}
			return nil
		}}
		if _, err := dial(t, f.serve(t), nil).Evaluate(background, large(161)); !errors.Is(err, ErrInternal) {
			t.Error(name, err)
		}
	}
}

// What cannot be streamed and is too large for a message is an error that says why.
func TestWhatCannotBeStreamed(t *testing.T) {
	f := failing(0, nil)
	address := f.serve(t)
	row := CrossEntropy(Float32(make([]float32, 5<<20), 5<<20), Int64([]int64{0}), nil)
	for transport, reason := range map[Transport]string{Auto: "MESSAGE_TOO_LARGE", Unary: "MESSAGE_TOO_LARGE", Stream: "TRANSPORT_NOT_POSSIBLE"} {
		_, err := dial(t, address, &Options{Transport: transport}).Evaluate(background, row)
		if e := errorOf(t, err); e.Reason != reason || !errors.Is(err, ErrInvalidArgument) || errors.Is(err, ErrTooLarge) != (transport != Stream) {
			t.Error(transport, err)
		}
	}
	for _, e := range []Evaluation{small, {rpc: "CrossEntropy", request: &pb.CrossEntropyRequest{}}, CrossEntropy(Float32([]float32{1}), nil, nil)} {
		if _, err := dial(t, address, nil).Evaluate(background, e); err != nil {
			t.Error(err)
		}
	}
	if _, err := dial(t, address, nil).Evaluate(background, Evaluation{}); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if f.calls.Load() != 3 {
		t.Error(f.calls.Load())
	}
}

// The client adds what the server must know of a mean: over every integer dtype, without classes that are ignored or
// that there are not.
func TestDenominators(t *testing.T) {
	shape, weight, rowWeight := []int64{5, 4}, Float32([]float32{1, 2, 4, 8}, 4).wire, Float16([]uint16{0x3c00, 0x3c00, 0x4000, 0x3c00, 0x3c00}, 5).wire
	for _, target := range []*Tensor{
		Int64([]int64{0, 1, 2, 3, 9}, 5), Int32([]int32{0, 1, 2, 3, -1}, 5), Int16([]int16{0, 1, 2, 3, 4}, 5), Int8([]int8{0, 1, 2, 3, -1}, 5), Uint8([]uint8{0, 1, 2, 3, 4}, 5),
	} {
		for want, got := range map[float64]float64{
			4: added(shape, target.wire, nil, nil, -100), 15: added(shape, target.wire, weight, nil, -100),
			19: added(shape, target.wire, weight, rowWeight, -100), 11: added(shape, target.wire, weight, nil, 2), 6: added(shape, nil, nil, rowWeight, 2),
		} {
			if got != want {
				t.Errorf("%v: %v, not %v", target.DType(), got, want)
			}
		}
		if added(shape, target.wire, rowWeight, nil, 0)+added(shape, target.wire, nil, weight, 0)+added([]int64{4, 4}, target.wire, nil, nil, 0) != 0 {
			t.Error("tensors that do not fit are added")
		}
	}
	if got := added(shape, Float32(make([]float32, 5), 5).wire, nil, nil, -100); got != 5 { // which the server refuses
		t.Error(got)
	}
}

// An item that no block can hold, and a row that is not whole in one, are sent otherwise or refused.
func TestPlans(t *testing.T) {
	info := &pb.GetServerInfoResponse{ElementwiseGranularity: 1000, Limits: &pb.Limits{MaxMessageBytes: 1 << 20, MaxItemBytes: 1 << 10}}
	x := Float32(make([]float32, 4096), 16, 256)
	for want, e := range map[string]Evaluation{
		"": Softmax(Float32(make([]float32, 4096), 32, 128), nil),
		"the input is one row, and only whole rows are sent":                                        Softmax(x, &SoftmaxOptions{Dim: Ptr(-2)}),
		"the input is missing or empty":                                                             Softmax(Float32(nil, 0, 3), nil),
		"1 items (indices of dimension 0) have 2048 bytes, and the server's max_item_bytes is 1024": KLDivergence(Float64(make([]float64, 512), 2, 256), x, &KLDivergenceOptions{Kind: Logits}),
		"4 items (indices of dimension 0) have 4096 bytes, and the server's max_item_bytes is 1024": Sigmoid(x, nil),
	} {
		if p, got := e.plan(info, 1<<20); got != want || (p == nil) != (want != "") {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if _, got := small.plan(&pb.GetServerInfoResponse{}, 1<<20); got != "this server has no Stream" {
		t.Error(got)
	}
}
