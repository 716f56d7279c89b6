package lossd

import (
	"context"
	"errors"
	"fmt"

	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "lossd/lossdv1"
)

// counted gives so many small evaluations, and counts how many were taken.
func counted(n int, taken *int) func() (Evaluation, bool) {
	return func() (Evaluation, bool) {
		if *taken == n {
			return Evaluation{}, false
		}
		*taken++
		return small, true
	}
}

// Results come in order, each with its index; those that fail have their own error, and the others go on.
func TestMap(t *testing.T) {
	leavesNothing(t)
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return opens(s, func(id uint64) *pb.EvaluationResult {
			if id%10 == 0 {
				return &pb.EvaluationResult{Response: &pb.EvaluationResult_Failure{Failure: failureOf(id, refusal(codes.InvalidArgument, 0))}}
			}
			return good(float32(id))
		})
	}}
	taken, told := 0, 0
	err := dial(t, f.serve(t), nil).Map(background, counted(5000, &taken), func(i int, r *Result, err error) error {
		if i != told || (err != nil) != (i%10 == 9) || err == nil && r.Loss.Value() != float64(i+1) {
			t.Fatal(i, told, r, err)
		}
		told++
		return nil
	})
	if err != nil || told != 5000 || f.calls.Load() != 1 {
		t.Error(err, told, f.calls.Load())
	}
}

// next is asked at most 1024 evaluations ahead of the first that is unanswered.
func TestMapWindow(t *testing.T) {
	leavesNothing(t)
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return opens(s, func(id uint64) *pb.EvaluationResult {
			if id == 1 {
				return nil
			}
			return good(1)
		})
	}}
	ctx, cancel := context.WithTimeout(background, 500*time.Millisecond)
	defer cancel()
	taken := 0
	err := dial(t, f.serve(t), nil).Map(ctx, counted(5000, &taken), func(i int, _ *Result, err error) error {
		t.Error(i, err)
		return nil
	})
	if !errors.Is(err, ErrDeadlineExceeded) || taken != mapWindow {
		t.Error(err, taken)
	}
}

// What a server refuses for now is sent again, and the others do not wait for it.
func TestMapRefusals(t *testing.T) {
	leavesNothing(t)
	seen := map[uint64]int{}
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return opens(s, func(id uint64) *pb.EvaluationResult {
			if seen[id]++; seen[id] < 3 && id%5 == 0 {
				return &pb.EvaluationResult{Response: &pb.EvaluationResult_Failure{Failure: failureOf(id, refusal(codes.ResourceExhausted, time.Millisecond))}}
			}
			return good(float32(id))
		})
	}}
	taken, told := 0, 0
	err := dial(t, f.serve(t), nil).Map(background, counted(2000, &taken), func(i int, r *Result, err error) error {
		if err != nil || r.Loss.Value() != float64(i+1) {
			t.Fatal(i, r, err)
		}
		told++
		return nil
	})
	if err != nil || told != 2000 || seen[5] != 3 || seen[4] != 1 {
		t.Error(err, told, seen[5], seen[4])
	}
}

// Where the stream breaks, what is unanswered is sent again over another, and next is not asked for it twice.
func TestMapAgain(t *testing.T) {
	leavesNothing(t)
	broken := &fake{stream: func(s pb.LossService_StreamServer) error {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		results := &pb.EvaluationResults{}
		for _, o := range m.GetOpens().GetOpens() {
			r := good(float32(o.EvaluationId))
			r.EvaluationId = o.EvaluationId
			results.Results = append(results.Results, r)
		}
		s.Send(&pb.StreamResponse{Message: &pb.StreamResponse_Results{Results: results}})
		return refusal(codes.Unavailable, time.Millisecond) // after a message each
	}}
	taken, told := 0, 0
	err := dial(t, broken.serve(t), nil).Map(background, counted(1000, &taken), func(i int, r *Result, err error) error {
		if err != nil || i != told || r.Loss.Value() != float64(i+1) {
			t.Fatal(i, r, err)
		}
		told++
		return nil
	})
	if err != nil || told != 1000 || taken != 1000 || broken.calls.Load() < 2 {
		t.Error(err, told, taken, broken.calls.Load())
	}
}

// Map ends with what each returns, and with what ended the stream for good.
func TestMapStops(t *testing.T) {
	leavesNothing(t)
	f := &fake{stream: func(s pb.LossService_StreamServer) error {
		return opens(s, func(id uint64) *pb.EvaluationResult { return good(1) })
	}}
	enough, taken := errors.New("enough"), 0
	err := dial(t, f.serve(t), nil).Map(background, counted(1e6, &taken), func(i int, _ *Result, _ error) error {
		if i == 100 {
			return enough
		}
		return nil
	})
	if err != enough || taken > 100+mapWindow {
		t.Error(err, taken)
	}

	refusing := &fake{stream: func(pb.LossService_StreamServer) error { return refusal(codes.Unauthenticated, 0) }}
	if err := ways(dial(t, refusing.serve(t), nil))["map"](background); !errors.Is(err, ErrUnauthenticated) {
		t.Error(err)
	}
	if err := dial(t, f.serve(t), nil).Map(background, Slice(nil), nil); err != nil {
		t.Error(err)
	}
}

// An evaluation that cannot be sent has its error in its place; large ones go by themselves.
func TestMapMixture(t *testing.T) {
	leavesNothing(t)
	f := &fake{}
	f.stream = func(s pb.LossService_StreamServer) error {
		if f.calls.Load() == 1 {
			return opens(s, func(id uint64) *pb.EvaluationResult { return good(1) })
		}
		return blocks(s, nil)
	}
	c := dial(t, f.serve(t), nil)
	wrong := CrossEntropy(Float32([]float32{1}, 2, 2), Int64([]int64{0, 1}, 2), nil)
	var said []string
	err := c.Map(background, Slice([]Evaluation{small, wrong, large(161), large(162), {}, small}), func(_ int, r *Result, err error) error {
		if err != nil {
			said = append(said, errorOf(t, err).Reason)
		} else {
			said = append(said, fmt.Sprint(r.Loss.Value()))
		}
		return nil
	})
	if err != nil || fmt.Sprint(said) != "[1 LENGTH_MISMATCH 3 3 MISSING_FIELD 1]" {
		t.Error(err, said)
	}
}
