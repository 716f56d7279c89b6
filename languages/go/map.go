package lossd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	mapWindow      = 1024     // evaluations under way
	mapWindowBytes = 64 << 20 // of them and of their answers, one excepted
	together       = 128      // evaluations that share a message
	togetherBytes  = 1 << 19
)

// Map computes every evaluation that next gives (until it gives false), many at a time over one stream, and calls each
// with the results in order: index counts from 0, and err is the *Error of that evaluation alone. It stops where each
// returns an error, and returns it; otherwise it returns the error that ended the stream for good, or nil.
//
// next and each are called by this goroutine, one at a time, next at most 1024 evaluations and 64 MiB ahead. An
// evaluation that a full server refuses is sent again; so are all that are unanswered, where the stream breaks. Large
// ones go by themselves, as by Evaluate.
func (c *Client) Map(ctx context.Context, next func() (Evaluation, bool), each func(index int, r *Result, err error) error) error {
	within, cancel := context.WithCancel(ctx)
	m := &mapping{client: c, next: next, each: each, due: make(chan *entry, mapWindow), alone: make(chan *entry, mapWindow)}
	defer m.calls.Wait()
	defer cancel()
	err := c.repeat(within, func() (int, error) {
		err := m.attempt(within)
		return m.delivered, err
	})
	if m.stopped != nil {
		return m.stopped
	}
	return err
}

// Slice gives Map the evaluations of a slice.
func Slice(evaluations []Evaluation) func() (Evaluation, bool) {
	return func() (Evaluation, bool) {
		if len(evaluations) == 0 {
			return Evaluation{}, false
		}
		first := evaluations[0]
		evaluations = evaluations[1:]
		return first, true
	}
}

// entry is an evaluation that next gave and each was not told of.
type entry struct {
	id         uint64
	evaluation Evaluation
	size       int64 // bytes of the request
	bytes      int64 // and of the answer
	start      time.Time
	failures   int
	onStream   bool
	done       bool
	result     *Result
	err        error
}

func (e *entry) end(r *Result, err error) { e.result, e.err, e.done, e.onStream = r, err, true, false }

// mapping is a Map under way. Its goroutine owns it; others speak to it through channels, which have room for all.
type mapping struct {
	client    *Client
	next      func() (Evaluation, bool)
	each      func(int, *Result, error) error
	queue     []*entry // in order
	bytes     int64
	ids       uint64
	delivered int
	exhausted bool
	stopped   error       // of each
	due       chan *entry // refused by a full server, to be sent again
	alone     chan *entry // computed by a call of its own
	calls     sync.WaitGroup
}

func (m *mapping) wants() bool {
	return !m.exhausted && len(m.queue) < mapWindow && (m.bytes < mapWindowBytes || len(m.queue) == 0)
}

var always = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// attempt goes on over a new stream until all is done (nil), each has stopped it (nil) or the stream breaks.
func (m *mapping) attempt(ctx context.Context) error {
	_, fixed := ctx.Deadline()
	within, cancel := context.WithCancel(m.client.told(ctx))
	defer cancel()
	call, err := m.client.stub.Stream(within)
	if err != nil {
		return err
	}
	p := &pipe{call: call, outbox: make(chan *entry, mapWindow), answers: make(chan []answered, mapWindow), broken: make(chan error, 1)}
	defer p.running.Wait()
	defer cancel()
	p.running.Add(2)
	go p.write(within)
	go p.read(within)
	open := map[uint64]*entry{}
	send := func(e *entry) {
		open[e.id], e.onStream = e, true
		p.outbox <- e
	}
	for _, e := range m.queue {
		if e.onStream {
			send(e)
		}
	}
	idle := time.NewTimer(m.client.options.Timeout)
	defer idle.Stop()
	for {
		for len(m.queue) > 0 && m.queue[0].done {
			first := m.queue[0]
			m.queue, m.bytes, m.delivered = m.queue[1:], m.bytes-first.bytes, m.delivered+1
			if m.stopped = m.each(m.delivered-1, first.result, first.err); m.stopped != nil {
				return nil
			}
		}
		var more <-chan struct{}
		if m.wants() {
			more = always
		} else if len(m.queue) == 0 {
			p.end()
			return nil
		} else if len(open) > 0 && !fixed {
			again(idle, m.client.options.Timeout)
		}
		select {
		case <-more:
			if e, ok := m.next(); !ok {
				m.exhausted = true
			} else {
				m.add(ctx, e, send)
			}
		case got := <-p.answers:
			for _, one := range got {
				if e := open[one.id]; e != nil {
					delete(open, one.id)
					m.answer(ctx, e, one)
				}
			}
		case e := <-m.due:
			send(e)
		case e := <-m.alone:
			e.done = true
		case err := <-p.broken:
			return err
		case <-ctx.Done():
			return contextError(ctx)
		case <-idle.C:
			if more == nil && len(open) > 0 && !fixed {
				return &Error{Code: codes.DeadlineExceeded, Reason: "NO_PROGRESS", Message: fmt.Sprintf("the stream stood still for %v", m.client.options.Timeout), context: context.DeadlineExceeded}
			}
		}
	}
}

// again has the timer begin anew.
func again(t *time.Timer, d time.Duration) {
	if !t.Stop() {
		select {
		case <-t.C:
		default:
		}
	}
	t.Reset(d)
}

// add puts an evaluation at the queue's end, and sends it; or has it computed by a call of its own.
func (m *mapping) add(ctx context.Context, e Evaluation, send func(*entry)) {
	m.ids++
	one := &entry{id: m.ids, evaluation: e, start: time.Now()}
	m.queue = append(m.queue, one)
	if err := e.fault(); err != nil {
		one.end(nil, err)
		return
	}
	one.size = int64(proto.Size(e.request))
	answer := e.answerBytes()
	one.bytes = one.size + answer
	m.bytes += one.bytes
	if one.size <= togetherBytes && answer <= min(smallBytes, int64(m.client.options.MaxResponseBytes)) {
		send(one)
		return
	}
	m.calls.Add(1)
	go func() {
		defer m.calls.Done()
		one.result, one.err = m.client.Evaluate(ctx, e)
		m.alone <- one
	}()
}

// answer ends an evaluation, or has it sent again later, where the server refused it and waiting helps.
func (m *mapping) answer(ctx context.Context, e *entry, got answered) {
	var failure *Error
	if !errors.As(got.err, &failure) {
		got.result.Timing.Total = time.Since(e.start)
		e.end(got.result, nil)
		return
	}
	wait, passes := waitAfter(failure, e.failures)
	end, fixed := ctx.Deadline()
	if !fixed {
		end = e.start.Add(m.client.options.Timeout)
	}
	if !passes || time.Now().Add(wait).After(end) {
		e.end(nil, failure)
		return
	}
	e.failures++
	e.onStream = false
	time.AfterFunc(wait, func() { m.due <- e })
}
