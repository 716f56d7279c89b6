package lossd

import (
	"context"
	"io"
	"sync"
	"time"

	pb "lossd/lossdv1"
)

// answered is an evaluation's end, as a stream tells it.
type answered struct {
	id     uint64
	result *Result
	err    error
}

// pipe is one stream: a goroutine writes and another reads, until the call's context ends.
type pipe struct {
	call    pb.LossService_StreamClient
	outbox  chan *entry
	answers chan []answered
	broken  chan error
	running sync.WaitGroup
}

// write sends what is in the outbox, as many in a message as there are by then.
func (p *pipe) write(ctx context.Context) {
	defer p.running.Done()
	for {
		var first *entry
		select {
		case first = <-p.outbox:
		case <-ctx.Done():
			return
		}
		if first == nil {
			p.call.CloseSend()
			return
		}
		opens, size, closed := []*pb.Open{first.evaluation.open(first.id)}, first.size, false
		for more := true; more && len(opens) < together && size < togetherBytes; {
			select {
			case e := <-p.outbox:
				if closed = e == nil; !closed {
					opens, size = append(opens, e.evaluation.open(e.id)), size+e.size
				}
				more = !closed
			default:
				more = false
			}
		}
		if p.call.Send(&pb.StreamRequest{Message: &pb.StreamRequest_Opens{Opens: &pb.Opens{Opens: opens}}}) != nil {
			return // reading says why
		}
		if closed {
			p.call.CloseSend()
			return
		}
	}
}

// end closes the stream and waits for the server to do so, since to leave before would be a reset.
func (p *pipe) end() {
	close(p.outbox)
	select {
	case <-p.broken:
	case <-time.After(time.Second):
	}
}

func (p *pipe) read(ctx context.Context) {
	defer p.running.Done()
	for {
		message, err := p.call.Recv()
		if err == io.EOF {
			err = unavailable("STREAM_ENDED", "the stream ended before its answers")
		}
		if err != nil {
			p.broken <- err
			return
		}
		var got []answered
		switch one := message.GetMessage().(type) {
		case *pb.StreamResponse_Results:
			for _, r := range one.Results.GetResults() {
				got = append(got, read(r))
			}
		case *pb.StreamResponse_Result:
			got = append(got, read(one.Result))
		case *pb.StreamResponse_Failure:
			got = append(got, answered{id: one.Failure.GetEvaluationId(), err: fromFailure(one.Failure)})
		}
		select {
		case p.answers <- got:
		case <-ctx.Done():
			return
		}
	}
}

func read(r *pb.EvaluationResult) answered {
	if failure := r.GetFailure(); failure != nil {
		return answered{id: r.GetEvaluationId(), err: fromFailure(failure)}
	}
	one := responseOf(r)
	if one == nil {
		return answered{id: r.GetEvaluationId(), err: malformed("no response")}
	}
	got, err := result(one, nil, time.Time{})
	return answered{r.GetEvaluationId(), got, err}
}
