package lossd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "lossd/lossdv1"
)

var background = context.Background()

// failing answers after so many refusals.
func failing(times int64, err error) *fake {
	f := &fake{}
	f.unary = func(context.Context, *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
		if f.calls.Load() <= times {
			return nil, err
		}
		return answer(1.5), nil
	}
	return f
}

// What passes is tried again; what does not, is not.
func TestRetries(t *testing.T) {
	for _, one := range []struct {
		err   error
		calls int64
		is    error
	}{
		{status.Error(codes.Unavailable, "away"), 3, nil},
		{refusal(codes.Unavailable, time.Millisecond), 3, nil},
		{status.Error(codes.Canceled, "the server stops"), 3, nil},
		{refusal(codes.ResourceExhausted, time.Millisecond), 3, nil},
		{refusal(codes.ResourceExhausted, 0), 1, ErrTooLarge},
		{refusal(codes.InvalidArgument, 0), 1, ErrInvalidArgument},
		{refusal(codes.Internal, 0), 1, ErrInternal},
		{refusal(codes.Unimplemented, 0), 1, ErrNotServed},
		{refusal(codes.PermissionDenied, 0), 1, ErrUnauthenticated},
		{refusal(codes.DeadlineExceeded, 0), 1, context.DeadlineExceeded},
	} {
		f := failing(2, one.err)
		r, err := dial(t, f.serve(t), nil).Evaluate(background, small)
		if f.calls.Load() != one.calls || !errors.Is(err, one.is) {
			t.Errorf("%v: %d calls, not %d; %v", one.err, f.calls.Load(), one.calls, err)
		}
		if err == nil && (r.Loss.Value() != 1.5 || r.Timing.Queue != 7 || r.Timing.Total <= 0) {
			t.Error(r)
		}
	}
}

// The waits grow to 2 s, are at least what the server asks for, and differ by ±20 %.
func TestWaits(t *testing.T) {
	for failures, longest := range map[int]time.Duration{0: 50, 1: 100, 3: 400, 6: 2000, 5000: 2000} {
		wait, passes := waitAfter(&Error{Code: codes.Unavailable}, failures)
		longest *= time.Millisecond
		if !passes || wait < longest*8/10 || wait > longest*12/10 {
			t.Error(failures, wait)
		}
	}
	if wait, _ := waitAfter(&Error{Code: codes.ResourceExhausted, passes: true, RetryAfter: 9 * time.Second}, 0); wait < 7*time.Second {
		t.Error(wait)
	}
}

// A refusal that would be repeated after the deadline is the call's error, at once.
func TestNoTimeForAnotherAttempt(t *testing.T) {
	f := failing(1000, refusal(codes.ResourceExhausted, time.Hour))

	_, err := dial(t, f.serve(t), nil).Evaluate(background, small)
	if e := errorOf(t, err); !errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge) || e.RetryAfter != time.Hour || f.calls.Load() != 1 {
		t.Error(err)
	}
}

func stuck() *fake {
	return &fake{
		unary: func(ctx context.Context, _ *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		},
		stream: func(s pb.LossService_StreamServer) error {
			<-s.Context().Done()
			return status.FromContextError(s.Context().Err()).Err()
		},
	}
}

// each way to evaluate: a call, blocks, Map.
func ways(c *Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"unary":  func(ctx context.Context) error { _, err := c.Evaluate(ctx, small); return err },
		"blocks": func(ctx context.Context) error { _, err := c.Evaluate(ctx, large(256)); return err },
		"map": func(ctx context.Context) error {
			return c.Map(ctx, Slice([]Evaluation{small}), func(_ int, _ *Result, err error) error { return err })
		},
	}
}

// A deadline, the default one too, is DEADLINE_EXCEEDED and context.DeadlineExceeded, and no goroutine stays.
func TestDeadlines(t *testing.T) {
	leavesNothing(t)
	c := dial(t, stuck().serve(t), &Options{Timeout: 200 * time.Millisecond})
	if _, err := c.ServerInfo(background); err != nil { // it is connected
		t.Fatal(err)
	}
	for name, way := range ways(c) {
		short, cancel := context.WithTimeout(background, 100*time.Millisecond)
		for _, ctx := range []context.Context{short, background} {
			err := way(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrDeadlineExceeded) || status.Code(err) != codes.DeadlineExceeded {
				t.Error(name, err)
			}
		}
		cancel()
	}
}

// A cancelled context is CANCELLED and context.Canceled, and no goroutine stays.
func TestCancelling(t *testing.T) {
	leavesNothing(t)
	f := stuck()
	c := dial(t, f.serve(t), nil)
	for name, way := range ways(c) {
		ctx, cancel := context.WithCancel(background)
		before := f.calls.Load()
		go func() {
			for f.calls.Load() == before {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		if err := way(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
			t.Error(name, err)
		}
	}
}

// An error says the same as a call's status, as a stream's, as a Failure and as a Failure among results.
func TestFailuresInTheirPlaces(t *testing.T) {
	sent := refusal(codes.InvalidArgument, 0)
	want := &Error{Code: codes.InvalidArgument, Message: "no", Reason: "WHY", Field: "target", RequestID: "r1", Metadata: map[string]string{"request_id": "r1"}, server: true}
	failure := &pb.StreamResponse{Message: &pb.StreamResponse_Failure{Failure: failureOf(1, sent)}}
	inResult := &pb.EvaluationResult{EvaluationId: 1, Response: &pb.EvaluationResult_Failure{Failure: failureOf(1, sent)}}
	inResults := &pb.StreamResponse{Message: &pb.StreamResponse_Results{Results: &pb.EvaluationResults{Results: []*pb.EvaluationResult{inResult}}}}
	for _, place := range []struct {
		name, way string
		sent      *pb.StreamResponse
	}{
		{"status", "unary", nil}, {"status", "blocks", nil}, {"status", "map", nil},
		{"failure", "blocks", failure}, {"failure", "map", failure}, {"results", "map", inResults},
		{"result", "blocks", &pb.StreamResponse{Message: &pb.StreamResponse_Result{Result: inResult}}},
		{"result", "map", &pb.StreamResponse{Message: &pb.StreamResponse_Result{Result: inResult}}},
	} {
		place := place
		f := failing(1000, sent)
		f.stream = func(s pb.LossService_StreamServer) error {
			s.Recv()
			if place.sent == nil {
				return sent
			}
			s.Send(place.sent)
			<-s.Context().Done()
			return nil
		}
		err := ways(dial(t, f.serve(t), nil))[place.way](background)
		if got := errorOf(t, err); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, %s: %+v, not %+v", place.name, place.way, got, want)
		}
	}
}

// Where nothing answers, the error says what is the matter; a server that comes in time is found.
func TestConnecting(t *testing.T) {
	leavesNothing(t)
	gone, _ := net.Listen("tcp", "127.0.0.1:0")
	gone.Close()
	deaf, _ := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	defer deaf.Close()
	for address, reason := range map[string]string{
		gone.Addr().String(): "NOTHING_LISTENS", "unix:" + filepath.Join(t.TempDir(), "no"): "NO_SOCKET", deaf.Addr().String(): "NOT_CONNECTED",
	} {
		c := dial(t, address, &Options{ConnectTimeout: 300 * time.Millisecond})
		for _, name := range []string{"unary", "blocks", "map"} {
			if err := ways(c)[name](background); !errors.Is(err, ErrUnavailable) || errorOf(t, err).Reason != reason {
				t.Error(name, address, err)
			}
		}
	}

	f := failing(0, nil)
	path := filepath.Join(t.TempDir(), "late")
	c := dial(t, "unix:"+path, nil)
	go func() {
		time.Sleep(200 * time.Millisecond)
		f.listen(t, "unix", path)
	}()
	if _, err := c.Evaluate(background, small); err != nil {
		t.Error(err)
	}
}

// A closed client says so, in the midst of a call too.
func TestClosing(t *testing.T) {
	leavesNothing(t)
	f := stuck()
	c := dial(t, f.serve(t), nil)
	go func() {
		for f.calls.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		c.Close()
	}()
	for i := 0; i < 2; i++ {
		if _, err := c.Evaluate(background, small); errorOf(t, err).Reason != clientClosed || !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	}
}

// Each call says how large it is, and how large its answer may be; the caller's metadata stays.
func TestMetadata(t *testing.T) {
	var sent metadata.MD
	f := &fake{unary: func(ctx context.Context, _ *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
		sent, _ = metadata.FromIncomingContext(ctx)
		return answer(1), nil
	}}
	c := dial(t, f.serve(t), &Options{MaxResponseBytes: 1 << 20, Token: "t0"})
	if _, err := c.Evaluate(metadata.AppendToOutgoingContext(background, "traceparent", "00-1"), small); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"lossd-request-bytes": strconv.Itoa(proto.Size(small.request)), "lossd-max-response-bytes": "1048576", "authorization": "Bearer t0", "traceparent": "00-1",
	} {
		if got := sent.Get(key); len(got) != 1 || got[0] != want {
			t.Error(key, got)
		}
	}
}

// Goroutines share a client.
func TestConcurrentUse(t *testing.T) {
	leavesNothing(t)
	f := failing(0, nil)
	f.stream = func(s pb.LossService_StreamServer) error {
		return opens(s, func(id uint64) *pb.EvaluationResult { return good(1) })
	}
	c := dial(t, f.serve(t), nil)
	var wait sync.WaitGroup
	for i := 0; i < 16; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for n := 0; n < 50; n++ {
				for _, name := range []string{"unary", "map"} {
					if err := ways(c)[name](background); err != nil {
						t.Error(name, err)
					}
				}
			}
		}()
	}
	wait.Wait()
}

// A server's answer that makes no sense is an error, not a panic.
func TestMalformedAnswers(t *testing.T) {
	for name, r := range map[string]*pb.CrossEntropyResponse{
		"no loss": {}, "too few bytes": {Loss: &pb.Tensor{Dtype: Float32Type, Shape: []int64{2}}},
		"no dtype": {Loss: &pb.Tensor{Dtype: 99}}, "negative": {Loss: &pb.Tensor{Dtype: Float32Type, Shape: []int64{-1}}},
	} {
		f := &fake{unary: func(context.Context, *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) { return r, nil }}
		if _, err := dial(t, f.serve(t), nil).Evaluate(background, small); !errors.Is(err, ErrInternal) {
			t.Error(name, err)
		}
	}
}
