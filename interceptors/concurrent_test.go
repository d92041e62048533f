package interceptors_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Calls of all kinds that succeed, fail, panic and are cancelled, all at once
// and with everything installed: each is counted once, with the code that its
// caller got.
func TestCallsConcurrentSafe(t *testing.T) {
	const callers, each = 8, 24
	for _, engine := range engines {
		t.Run(engine.name, func(t *testing.T) {
			var n atomic.Int64
			handle := func(s stream) error {
				switch n.Add(1) % 4 {
				case 0:
					return status.Error(codes.NotFound, "no")
				case 1:
					panic("handler")
				case 2:
					return gone(s) // the caller has had enough
				}
				return s.send()
			}
			h := start(t, stubOf(handle), func(h *harness) {
				c := &cell{}
				for _, o := range everything(c, interceptors.ServerSide) {
					h.servers = append(h.servers, o)
				}
				for _, o := range everything(c, interceptors.ClientSide) {
					h.clients = append(h.clients, o)
				}
				both(nil, engine.option)(h)
				h.clients = append(h.clients, interceptors.WithAttempts())
			})
			ctx := h.ctx()
			var mu sync.Mutex
			got := map[string]int64{}
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for j := range each {
						ctx, cancel := context.WithCancel(ctx)
						code := canonical(status.Code(h.impatient(ctx, cancel, kinds[(i+j)%4])))
						cancel()
						mu.Lock()
						got[code]++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			h.idle()
			if diff := cmp.Diff(got, h.logged("client call")); diff != "" {
				t.Errorf("calls by code, as the callers got them (-) and in the client's log (+):\n%s", diff)
			}
			for _, side := range []string{"server", "client"} {
				want := h.logged(side + " call") // on the server fewer: some were cancelled on the way
				if engine.option == nil {        // otelgrpc misses those that were cancelled before an attempt (D6)
					if diff := cmp.Diff(want, h.counts("rpc."+side+".call.duration", "rpc.response.status_code")); diff != "" {
						t.Errorf("calls by code on the %s, in its log (-) and in its metrics (+):\n%s", side, diff)
					}
				}
				delete(want, "OK")
				if diff := cmp.Diff(want, h.counts("rpcscope."+side+".errors", "rpc.response.status_code")); diff != "" {
					t.Errorf("failed calls by code on the %s, in its log (-) and in its metrics (+):\n%s", side, diff)
				}
			}
			h.eventually("spans to end", func() bool { return len(h.spans.Started()) == len(h.spans.Ended()) })
		})
	}
}

// logged returns how many calls there are in the log, by code.
func (h *harness) logged(msg string) map[string]int64 {
	h.t.Helper()
	n := map[string]int64{}
	for _, r := range recordsOf(h.t, h, msg) {
		n[fmt.Sprint(r["rpc.response.status_code"])]++
	}
	return n
}

// impatient makes a call and cancels it when the server is slow.
func (h *harness) impatient(ctx context.Context, cancel context.CancelFunc, kind interceptors.Kind) error {
	done := make(chan error, 1)
	go func() { done <- h.silent(ctx, kind) }()
	patience := time.NewTimer(5 * time.Millisecond)
	defer patience.Stop()
	select {
	case err := <-done:
		return err
	case <-patience.C:
		cancel()
		return <-done
	}
}
