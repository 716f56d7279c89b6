package lossd

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "lossd/lossdv1"
)

// fake is a server whose answers a test writes.
type fake struct {
	pb.UnimplementedLossServiceServer
	calls  atomic.Int64
	unary  func(context.Context, *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error)
	stream func(pb.LossService_StreamServer) error
}

func (f *fake) CrossEntropy(ctx context.Context, r *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
	f.calls.Add(1)
	return f.unary(ctx, r)
}

func (f *fake) Stream(s pb.LossService_StreamServer) error {
	f.calls.Add(1)
	return f.stream(s)
}

func (f *fake) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	return &pb.GetServerInfoResponse{ElementwiseGranularity: 1, Limits: &pb.Limits{MaxMessageBytes: 16 << 20, MaxItemBytes: 16 << 20}}, nil
}

// serve starts it on a Unix socket, and says its address.
func (f *fake) serve(t *testing.T, options ...grpc.ServerOption) string {
	path := filepath.Join(t.TempDir(), "s")
	f.listen(t, "unix", path, options...)
	return "unix:" + path
}

func (f *fake) listen(t *testing.T, network, address string, options ...grpc.ServerOption) string {
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(64<<20))...)
	pb.RegisterLossServiceServer(s, f)
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	return listener.Addr().String()
}

func dial(t *testing.T, address string, options *Options) *Client {
	t.Helper()
	c, err := Dial(address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// leavesNothing fails a test after whose end there are more goroutines than before. To be called first.
func leavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for try := 0; try < 500; try++ {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines were %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	})
}

var small = CrossEntropy(Float32([]float32{1, 2, 3, 4}, 2, 2), Int64([]int64{0, 1}, 2), nil)

// large is an evaluation of so many rows of 64 KiB, in memory of its own, that streams.
func large(rows int) Evaluation {
	return Entropy(Float32(make([]float32, rows<<14), rows, 1<<14), nil)
}

func answer(loss float32) *pb.CrossEntropyResponse {
	return &pb.CrossEntropyResponse{Loss: Float32([]float32{loss}).wire, Summary: &pb.Summary{Count: 2}, Timing: &pb.Timing{QueueNs: 7}}
}

func refusal(code codes.Code, wait time.Duration) error {
	s, _ := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Reason: "WHY", Domain: "lossd", Metadata: map[string]string{"request_id": "r1"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "target"}}})
	if wait > 0 {
		s, _ = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	return s.Err()
}

func failureOf(id uint64, err error) *pb.Failure {
	s := status.Convert(err).Proto()
	return &pb.Failure{EvaluationId: id, Code: s.Code, Message: s.Message, Details: s.Details}
}

// blocks reads an evaluation to its End, and answers.
func blocks(s pb.LossService_StreamServer, each func(*pb.Block) error) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if b := m.GetBlock(); b != nil && each != nil {
			if err := each(b); err != nil {
				return err
			}
		}
		if m.GetEnd() != nil {
			if err := s.Send(resultOf(&pb.EntropyResponse{Loss: Float32([]float32{3}).wire})); err != nil {
				return err
			}
		}
	}
}

func resultOf(r *pb.EntropyResponse) *pb.StreamResponse {
	return &pb.StreamResponse{Message: &pb.StreamResponse_Result{Result: &pb.EvaluationResult{EvaluationId: 1, Response: &pb.EvaluationResult_Entropy{Entropy: r}}}}
}

// opens answers every evaluation of a stream by what answerTo says of its number; nil is no answer at all.
func opens(s pb.LossService_StreamServer, answerTo func(id uint64) *pb.EvaluationResult) error {
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var results []*pb.EvaluationResult
		for _, o := range m.GetOpens().GetOpens() {
			if r := answerTo(o.EvaluationId); r != nil {
				r.EvaluationId = o.EvaluationId
				results = append(results, r)
			}
		}
		if err := s.Send(&pb.StreamResponse{Message: &pb.StreamResponse_Results{Results: &pb.EvaluationResults{Results: results}}}); err != nil {
			return err
		}
	}
}

func good(loss float32) *pb.EvaluationResult {
	return &pb.EvaluationResult{Response: &pb.EvaluationResult_CrossEntropy{CrossEntropy: answer(loss)}}
}

func errorOf(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	return e
}
