package interceptorstest

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/interceptors"
)

// call makes the call of r and notes what its caller gets.
func (w *world) call(ctx context.Context, r *record) (err error) {
	if w.kind == interceptors.Unary {
		request, reply := number(w.s.request, 1), blank(w.s.reply)
		r.note(func() { r.caller.sent = append(r.caller.sent, request) })
		if err := w.conn.Invoke(ctx, w.s.method, request, reply); err != nil {
			return err
		}
		r.note(func() { r.caller.got = append(r.caller.got, take(reply)) })
		return nil
	}
	cs, err := w.conn.NewStream(ctx, &w.desc, w.s.method)
	if err != nil {
		return err
	}
	for n := range r.requests() {
		m := number(w.s.request, n+1)
		r.note(func() { r.caller.sent = append(r.caller.sent, m) })
		if err := cs.SendMsg(m); err == io.EOF {
			break // the status comes from RecvMsg
		} else if err != nil {
			return err
		}
	}
	if err := cs.CloseSend(); err != nil || w.ending.stop == abandon {
		return err
	}
	for {
		m := blank(w.s.reply)
		if err := cs.RecvMsg(m); err == io.EOF && w.desc.ServerStreams {
			return nil
		} else if err != nil {
			return err
		}
		r.note(func() { r.caller.got = append(r.caller.got, take(m)) })
		if !w.desc.ServerStreams {
			return nil
		}
	}
}

// callContext returns what the call is made with, and what stops it.
func (r *record) callContext() (ctx context.Context, stop func()) {
	ctx = context.Background()
	if r.ending.stop == expire || r.ending.stop == expired {
		late := &deadline{Context: ctx, at: time.Now().Add(time.Hour), passed: make(chan struct{})}
		stop = sync.OnceFunc(func() { close(late.passed) })
		ctx = late
	} else {
		ctx, stop = context.WithCancel(ctx)
	}
	if r.s.context != nil {
		ctx = r.s.context(ctx)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, idHeader, r.id)
	return context.WithValue(ctx, recordKey{}, r), stop
}

// deadline is a context whose deadline passes when the test says so.
type deadline struct {
	context.Context
	at     time.Time
	passed chan struct{}
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }
func (d *deadline) Done() <-chan struct{}       { return d.passed }
func (d *deadline) Err() error {
	if isClosed(d.passed) {
		return context.DeadlineExceeded
	}
	return nil
}
