// Interop client: grpc-go. `client ADDRESS CASE`.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"sync"
	"time"

	pb "interop/lossdv1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

type said map[string]interface{}

const (
	deadline = 500 * time.Millisecond
	refusals = 2000
)

// Rows, classes and rows of a block of a stream.
type shape struct{ n, c, items int }

var whole, halves = shape{1000, 100, 64}, shape{8, 16, 4}
var lines = bufio.NewReader(os.Stdin)

func logits(n, c int) []float32 {
	x := make([]float32, n*c)
	for i := range x {
		x[i] = float32(float64((i*7919)%10007)/1000 - 5)
	}
	return x
}

func rows(x []float32, n, c int) *pb.Tensor {
	data := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{int64(n), int64(c)}, Storage: &pb.Tensor_Data{Data: data}}
}

func indices(y []int64) *pb.Tensor {
	data := make([]byte, 8*len(y))
	for i, v := range y {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(v))
	}
	return &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_INT64, Shape: []int64{int64(len(y))}, Storage: &pb.Tensor_Data{Data: data}}
}

func floats(t *pb.Tensor) []float32 {
	data := t.GetData()
	x := make([]float32, len(data)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return x
}

func request(n, c int) *pb.CrossEntropyRequest {
	y := make([]int64, n)
	for i := range y {
		y[i] = int64(i * 31 % c)
	}
	return &pb.CrossEntropyRequest{Input: rows(logits(n, c), n, c), Target: indices(y), Gradients: []pb.Gradient{pb.Gradient_GRADIENT_INPUT}}
}

// Open, the blocks, End.
func streamed(s shape) []*pb.StreamRequest {
	opened, x := request(s.n, s.c), logits(s.n, s.c)
	opened.Input.Storage = &pb.Tensor_Streamed{Streamed: &pb.Streamed{}}
	open := &pb.Open{EvaluationId: 1, Request: &pb.Open_CrossEntropy{CrossEntropy: opened}}
	messages := []*pb.StreamRequest{{Message: &pb.StreamRequest_Open{Open: open}}}
	for first := 0; first < s.n; first += s.items {
		k := s.items
		if s.n-first < k {
			k = s.n - first
		}
		block := &pb.Block{EvaluationId: 1, FirstItem: int64(first), Input: rows(x[first*s.c:(first+k)*s.c], k, s.c)}
		messages = append(messages, &pb.StreamRequest{Message: &pb.StreamRequest_Block{Block: block}})
	}
	return append(messages, &pb.StreamRequest{Message: &pb.StreamRequest_End{End: &pb.End{EvaluationId: 1}}})
}

// The loss, and the gradient as one number that changes with every entry's value and place.
func told(loss *pb.Tensor, gradient []float32) said {
	weighted := 0.0
	for i, g := range gradient {
		weighted += math.Abs(float64(g)) * float64(1+i%97)
	}
	return said{"loss": floats(loss)[0], "gradient": weighted}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Tells the test that this point is reached, and waits until it says to go on.
func pause() {
	fmt.Println("paused")
	lines.ReadString('\n')
}

func unary(stub pb.LossServiceClient, n, c int, options ...grpc.CallOption) (said, error) {
	answer, err := stub.CrossEntropy(context.Background(), request(n, c), options...)
	if err != nil {
		return nil, err
	}
	return told(answer.Loss, floats(answer.InputGradient)), nil
}

// A streamed evaluation.
type evaluation struct {
	call     pb.LossService_StreamClient
	messages []*pb.StreamRequest
	gradient []float32
	blocks   int
	result   *pb.EvaluationResult
}

func begin(ctx context.Context, stub pb.LossServiceClient, s shape) *evaluation {
	call, err := stub.Stream(ctx)
	must(err)
	return &evaluation{call: call, messages: streamed(s)}
}

// Stands still after its first block was answered, or the call has ended.
func half(ctx context.Context, stub pb.LossServiceClient) *evaluation {
	e := begin(ctx, stub, halves)
	e.send(0, 2)
	if answer, err := e.call.Recv(); err == nil {
		e.take(answer)
	}
	return e
}

func (e *evaluation) send(from, to int) {
	for _, message := range e.messages[from:to] {
		if err := e.call.Send(message); err != nil && err != io.EOF { // after EOF, Recv has the reason
			log.Fatal(err)
		}
	}
}

func (e *evaluation) take(answer *pb.StreamResponse) {
	if block := answer.GetBlock(); block != nil {
		e.blocks++
		e.gradient = append(e.gradient, floats(block.InputGradient)...)
	} else {
		e.result = answer.GetResult()
	}
}

// The code that the call ends with.
func (e *evaluation) end() codes.Code {
	for {
		answer, err := e.call.Recv()
		if err == io.EOF {
			return codes.OK
		}
		if err != nil {
			return status.Code(err)
		}
		e.take(answer)
	}
}

func (e *evaluation) finish(from int) said {
	go func() { // writes while the other side reads
		e.send(from, len(e.messages))
		e.call.CloseSend()
	}()
	code := e.end()
	answer := told(e.result.GetCrossEntropy().Loss, e.gradient)
	answer["blocks"], answer["code"] = e.blocks, code
	return answer
}

func wrong(stub pb.LossServiceClient) said {
	bad := request(4, 5)
	bad.Target = indices([]int64{0, 9, 0, 0})
	_, err := stub.CrossEntropy(context.Background(), bad)
	answer := said{"code": status.Code(err)}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			answer["reason"], answer["domain"] = detail.Reason, detail.Domain
		case *errdetails.BadRequest:
			fields := []string{}
			for _, one := range detail.FieldViolations {
				fields = append(fields, one.Field)
			}
			answer["fields"] = fields
		}
	}
	return answer
}

func many(stub pb.LossServiceClient) said {
	const calls = 1000
	answers := make([]said, calls)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			answer, err := unary(stub, 8, 16)
			must(err)
			answers[i] = answer
		}(i)
	}
	wait.Wait()
	same := true
	for _, one := range answers {
		same = same && one["loss"] == answers[0]["loss"] && one["gradient"] == answers[0]["gradient"]
	}
	return said{"loss": answers[0]["loss"], "gradient": answers[0]["gradient"], "calls": calls, "same": same}
}

func refused(stub pb.LossServiceClient) said {
	large, code := request(200, 128), codes.OK
	for i := 0; i < refusals; i++ {
		_, err := stub.CrossEntropy(context.Background(), large)
		if i > 0 && status.Code(err) != code {
			log.Fatal(err)
		}
		code = status.Code(err)
	}
	answer, err := unary(stub, 4, 5)
	must(err)
	answer["code"] = code
	return answer
}

func drain(stub pb.LossServiceClient) said {
	e := half(context.Background(), stub)
	pause()
	finished := e.finish(2)
	_, err := unary(stub, 4, 5)
	finished["refused"] = status.Code(err)
	pause()
	again, err := unary(stub, 4, 5, grpc.WaitForReady(true))
	must(err)
	finished["again"] = again["loss"]
	return finished
}

func run(stub pb.LossServiceClient, name string) said {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	switch name {
	case "unary", "large":
		n, c := 4, 5
		if name == "large" {
			n, c = 4096, 1024
		}
		answer, err := unary(stub, n, c)
		must(err)
		return answer
	case "stream":
		return begin(ctx, stub, whole).finish(0)
	case "error":
		return wrong(stub)
	case "deadline":
		timed, release := context.WithTimeout(ctx, deadline)
		defer release()
		return said{"code": half(timed, stub).end()}
	case "cancel":
		e := half(ctx, stub)
		stop()
		code := e.end()
		answer, err := unary(stub, 4, 5)
		must(err)
		answer["code"] = code
		return answer
	case "many":
		return many(stub)
	case "refusals":
		return refused(stub)
	case "keepalive":
		e := half(ctx, stub)
		pause()
		return e.finish(2)
	case "drain":
		return drain(stub)
	}
	panic(name)
}

func main() {
	options := []grpc.DialOption{grpc.WithInsecure(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32))}
	if os.Args[2] == "keepalive" {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}))
	}
	channel, err := grpc.Dial(os.Args[1], options...)
	must(err)
	line, err := json.Marshal(run(pb.NewLossServiceClient(channel), os.Args[2]))
	must(err)
	fmt.Println(string(line))
}
