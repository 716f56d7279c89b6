// Interop client: grpc-go. `client ADDRESS CASE`.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"sync"
	"time"

	pb "lossd/lossdv1"

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
