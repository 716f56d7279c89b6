// Package lossd is a client of lossd, a service that computes losses, their gradients and what belongs to them.
//
//	client, err := lossd.Dial("127.0.0.1:50051", nil)
//	…
//	defer client.Close()
//	r, err := client.CrossEntropy(ctx, lossd.Float32(logits, n, c), lossd.Int64(labels, n),
//		&lossd.CrossEntropyOptions{LabelSmoothing: 0.1, Gradients: lossd.Input})
//	…
//	fmt.Println(r.Loss.Value(), r.Gradients.Input.Float32())
//
// Notation: x are logits, p probabilities, y class indices; N rows, C classes. A row is one distribution, along
// dimension 1 (0 of a one-dimensional input). An item is one index of dimension 0.
package lossd

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "lossd/lossdv1"
)

// Client is a connection to a server. It is safe for use by several goroutines.
type Client struct {
	connection *grpc.ClientConn
	stub       pb.LossServiceClient
	address    string
	options    Options
	reached    atomic.Bool // a server has answered
	closed     atomic.Bool
	info       atomic.Pointer[pb.GetServerInfoResponse]
}

func newClient(connection *grpc.ClientConn, address string, o Options) *Client {
	return &Client{connection: connection, stub: pb.NewLossServiceClient(connection), address: address, options: o}
}

// Close ends the calls that are under way, and the connection.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.connection.Close()
}

// ServerInfo asks the server for its version, device, limits and statistics.
func (c *Client) ServerInfo(ctx context.Context) (*pb.GetServerInfoResponse, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	info := new(pb.GetServerInfoResponse)
	if err := c.unary(ctx, "GetServerInfo", new(pb.GetServerInfoRequest), info); err != nil {
		return nil, err
	}
	c.info.Store(info)
	return info, nil
}

// Evaluate computes e: in one message, or in blocks of a stream where it is large. The result has the same bits.
//
// It repeats the call until the context's deadline where that can help: the server is away, or full. Without a deadline
// it takes Options.Timeout.
func (c *Client) Evaluate(ctx context.Context, e Evaluation) (*Result, error) {
	start := time.Now()
	cut, err := c.route(ctx, e)
	if err != nil {
		return nil, err
	}
	if cut != nil {
		return c.evaluateInBlocks(ctx, e, cut, start)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	answer := e.newResponse()
	if err := c.unary(ctx, e.rpc, e.request, answer); err != nil {
		if failure := err.(*Error); failure.Is(ErrTooLarge) {
			c.info.Store(nil) // what it takes has changed
		}
		return nil, err
	}
	return result(answer, nil, start)
}

// bounded is the context with the default deadline, if it has none.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.options.Timeout)
}

func (c *Client) unary(ctx context.Context, rpc string, request, answer proto.Message) error {
	ctx = c.told(ctx, "lossd-request-bytes", strconv.Itoa(proto.Size(request)))
	return c.repeat(ctx, func() (int, error) {
		return 0, c.connection.Invoke(ctx, "/lossd.v1.LossService/"+rpc, request, answer)
	})
}

// told is the context with metadata: what every call says, and more.
func (c *Client) told(ctx context.Context, more ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, append(more, "lossd-max-response-bytes", strconv.Itoa(c.options.MaxResponseBytes))...)
}

const firstWait, longestWait = 50 * time.Millisecond, 2 * time.Second

// waitAfter is how long to wait after the failure, of which so many came before it; jittered, so that clients that
// failed together do not come back together: by the clock, since before Go 1.20 math/rand gives every process the same
// numbers. False where waiting does not help.
func waitAfter(e *Error, failures int) (time.Duration, bool) {
	passes := e.Code == codes.Unavailable && e.Reason != clientClosed || e.Is(ErrOverloaded)
	wait := math.Min(float64(firstWait)*math.Pow(2, float64(failures)), float64(longestWait))
	jitter := 0.8 + 0.4*float64(time.Now().UnixNano()%1000)/1000
	return time.Duration(math.Max(wait, float64(e.RetryAfter)) * jitter), passes
}

// repeat makes attempts until one succeeds, or there is no use or no time for another: until the context's deadline, or
// Options.Timeout after the last progress. An attempt says how far it came; losses are pure, so all can be repeated.
func (c *Client) repeat(ctx context.Context, attempt func() (int, error)) error {
	start, furthest, failures := time.Now(), 0, 0
	end, fixed := ctx.Deadline()
	if !fixed {
		end = start.Add(c.options.Timeout)
	}
	for {
		err := c.connect(ctx, start)
		if err == nil {
			var far int
			if far, err = attempt(); err == nil {
				c.reached.Store(true)
				return nil
			}
			if far > furthest && !fixed {
				furthest, failures, end = far, 0, time.Now().Add(c.options.Timeout)
			}
		}
		failure := c.explain(ctx, err)
		wait, passes := waitAfter(failure, failures)
		failures++
		last := end
		if connecting := start.Add(c.options.ConnectTimeout); !c.reached.Load() && connecting.Before(end) {
			last = connecting
		}
		if !passes || time.Now().Add(wait).After(last) {
			return failure
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// connect waits for the connection, if no server has answered yet: nil where the next call will go, or say why not.
func (c *Client) connect(ctx context.Context, start time.Time) error {
	if c.reached.Load() {
		return nil
	}
	bounded, cancel := context.WithDeadline(ctx, start.Add(c.options.ConnectTimeout))
	defer cancel()
	for {
		state := c.connection.GetState()
		if state == connectivity.Ready || state == connectivity.TransientFailure || state == connectivity.Shutdown {
			return nil
		}
		if !c.connection.WaitForStateChange(bounded, state) {
			if ctx.Err() == context.Canceled {
				return contextError(ctx)
			}
			e := unavailable("NOT_CONNECTED", fmt.Sprintf("%s does not answer: no connection in time. Is its host up, its port open?", c.address))
			e.context = ctx.Err()
			return e
		}
	}
}

// What gRPC says of a connection that ended before HTTP/2's greeting.
var closedAtOnce = regexp.MustCompile(`\((connection closed|.*(EOF|reset by peer|server preface|broken pipe).*)\)$`)

// explain is what an attempt's failure means.
func (c *Client) explain(ctx context.Context, err error) *Error {
	if c.closed.Load() {
		return unavailable(clientClosed, "this client is closed")
	}
	e := explain(ctx, err, c.address)
	if !c.reached.Load() && e.Reason == "UNAVAILABLE" && closedAtOnce.MatchString(e.Message) {
		e = c.options.whyClosed(c.address)
	}
	if e.server {
		c.reached.Store(true)
	}
	return e
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}
