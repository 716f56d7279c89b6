package lossd

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "lossd/lossdv1"
)

// evaluateInBlocks sends the evaluation in blocks, each of which the server computes while later ones are sent. A
// stream that breaks is begun anew, as long as each attempt comes further than those before.
func (c *Client) evaluateInBlocks(ctx context.Context, e Evaluation, p *plan, start time.Time) (*Result, error) {
	open := e.opening(p)
	most, _ := elements(e.request.GetInput().Shape)
	var answer response
	var got *assembly
	err := c.repeat(ctx, func() (far int, err error) {
		got = &assembly{items: p.items, most: most, whole: map[string]*pb.Tensor{}, filled: map[string]int64{}}
		answer, far, err = c.attemptInBlocks(ctx, p, open, got)
		return far, err
	})
	if err != nil {
		return nil, err
	}
	for field, filled := range got.filled {
		if filled != p.items {
			return nil, malformed(fmt.Sprintf("%s of %d of %d items", field, filled, p.items))
		}
	}
	return result(answer, got.whole, start)
}

// attemptInBlocks writes in a goroutine of its own, which has ended when it returns. HTTP/2's flow control bounds what
// is under way. It says how many messages went either way.
func (c *Client) attemptInBlocks(ctx context.Context, p *plan, open *pb.Open, got *assembly) (answer response, far int, err error) {
	var moved, stalled atomic.Int64
	within, cancel := context.WithCancel(c.told(ctx))
	idle := time.AfterFunc(c.options.Timeout, func() {
		if _, ok := ctx.Deadline(); !ok {
			stalled.Store(1)
			cancel()
		}
	})
	defer idle.Stop()
	written := make(chan struct{})
	progress := func() {
		moved.Add(1)
		idle.Reset(c.options.Timeout)
	}
	call, err := c.stub.Stream(within)
	if err != nil {
		cancel()
		return nil, 0, err
	}
	go func() {
		defer close(written)
		p.write(call, open, progress)
	}()
	defer func() {
		cancel()
		<-written
		far = int(moved.Load())
		if stalled.Load() != 0 && err != nil {
			err = &Error{Code: codes.DeadlineExceeded, Reason: "NO_PROGRESS", Message: fmt.Sprintf("the stream stood still for %v", c.options.Timeout), context: context.DeadlineExceeded}
		}
	}()
	for {
		message, err := call.Recv()
		if err == io.EOF {
			return nil, 0, unavailable("STREAM_ENDED", "the stream ended before its answers")
		}
		if err != nil {
			return nil, 0, err
		}
		progress()
		switch one := message.GetMessage().(type) {
		case *pb.StreamResponse_Block:
			if err := got.block(one.Block); err != nil {
				return nil, 0, err
			}
		case *pb.StreamResponse_Failure:
			return nil, 0, fromFailure(one.Failure)
		case *pb.StreamResponse_Result:
			if failure := one.Result.GetFailure(); failure != nil {
				return nil, 0, fromFailure(failure)
			}
			if answer = responseOf(one.Result); answer == nil {
				return nil, 0, malformed("no response")
			}
			call.Recv() // the stream's end: to leave before it would be a reset
			return answer, 0, nil
		}
	}
}

type sender interface {
	Send(*pb.StreamRequest) error
	CloseSend() error
}

// write sends all that the evaluation needs. Where it cannot, whoever reads the call learns why.
func (p *plan) write(call sender, open *pb.Open, progress func()) {
	if call.Send(&pb.StreamRequest{Message: &pb.StreamRequest_Open{Open: open}}) != nil {
		return
	}
	for first := int64(0); first < p.items; first += p.step {
		block := &pb.Block{EvaluationId: open.EvaluationId, FirstItem: first}
		for field, t := range p.cut {
			set(block.ProtoReflect(), field, items(t, first, min(p.step, p.items-first)))
		}
		if call.Send(&pb.StreamRequest{Message: &pb.StreamRequest_Block{Block: block}}) != nil {
			return
		}
		progress()
	}
	if call.Send(&pb.StreamRequest{Message: &pb.StreamRequest_End{End: &pb.End{EvaluationId: open.EvaluationId}}}) == nil {
		call.CloseSend()
	}
}

func set(m protoreflect.Message, field string, t *pb.Tensor) {
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(field)), protoreflect.ValueOfMessage(t.ProtoReflect()))
}

// items are some of a tensor, in its own memory.
func items(t *pb.Tensor, first, count int64) *pb.Tensor {
	size := int64(len(t.GetData())) / t.Shape[0]
	return &pb.Tensor{
		Dtype: t.Dtype, Shape: append([]int64{count}, t.Shape[1:]...),
		Storage: &pb.Tensor_Data{Data: t.GetData()[first*size : (first+count)*size]},
	}
}

// opening starts the evaluation: its request without the elements that come in blocks, and with the mean's denominator.
func (e Evaluation) opening(p *plan) *pb.Open {
	r := e.request.ProtoReflect().New()
	e.request.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		r.Set(field, value)
		return true
	})
	if mean := e.denominator(p); mean != nil {
		r.Set(r.Descriptor().Fields().ByName("normalizer"), protoreflect.ValueOfFloat64(*mean))
	}
	for field, t := range p.cut {
		set(r, field, &pb.Tensor{Dtype: t.Dtype, Shape: t.Shape, Storage: &pb.Tensor_Streamed{Streamed: &pb.Streamed{}}})
	}
	return Evaluation{rpc: e.rpc, request: r.Interface().(request)}.open(1)
}

// assembly is the answer as its blocks come: each tensor's elements are copied once, to where they shall lie.
type assembly struct {
	items, most int64 // elements of any part of it
	whole       map[string]*pb.Tensor
	filled      map[string]int64
}

func (a *assembly) block(b *pb.BlockResult) error {
	for field, t := range map[string]*pb.Tensor{
		"loss": b.GetLoss(), "input_gradient": b.GetInputGradient(), "target_gradient": b.GetTargetGradient(),
		"lse": b.GetOutputs().GetLse(), "entropy": b.GetOutputs().GetEntropy(),
		"argmax": b.GetOutputs().GetArgmax(), "correct": b.GetOutputs().GetCorrect(),
	} {
		if t == nil {
			continue
		}
		if err := a.take(field, t, b.GetFirstItem()); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) take(field string, t *pb.Tensor, first int64) error {
	if err := check(t); err != nil {
		return malformed(err.on("a block's " + field).Message)
	}
	refused := malformed(fmt.Sprintf("%s of shape %v at item %d: %d of %d were there", field, t.Shape, first, a.filled[field], a.items))
	if len(t.Shape) == 0 || t.Shape[0] == 0 || first != a.filled[field] || t.Shape[0] > a.items-first {
		return refused
	}
	size := int64(len(t.GetData())) / t.Shape[0]
	whole := a.whole[field]
	if whole == nil {
		shape := append([]int64{a.items}, t.Shape[1:]...)
		if count, ok := elements(shape); !ok || count > a.most {
			return refused
		}
		whole = &pb.Tensor{Dtype: t.Dtype, Shape: shape, Storage: &pb.Tensor_Data{Data: make([]byte, size*a.items)}}
		a.whole[field] = whole
	}
	if whole.Dtype != t.Dtype || int64(len(whole.GetData())) != size*a.items {
		return refused
	}
	copy(whole.GetData()[first*size:], t.GetData())
	a.filled[field] = first + t.Shape[0]
	return nil
}
