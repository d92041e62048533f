package interceptors_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/interceptorstest"
)

// Both sides count the same, for all kinds of calls, also what a mapper makes of
// an error and a panic.
func TestCounts(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outcomes := []func() error{
					func() error { return nil },
					func() error { return errors.NotFound("nobody") },
					func() error { return fs.ErrNotExist },
					func() error { panic("at the disco") },
				}
				var outcome func() error
				counts := interceptors.NewCounts()
				h := start(t, waitingFor(func(context.Context) error {
					<-time.After(time.Second)
					if err := outcome(); err != nil {
						return err
					}
					return errors.Aborted("it has to end with something")
				}), func(h *harness) {
					h.servers = append(h.servers, counts.Interceptor())
					h.clients = append(h.clients, counts.Interceptor())
				})
				for _, outcome = range outcomes {
					_ = h.call(context.Background(), kind)
				}
				h.idle()
				of := func(side interceptors.Side) interceptors.MethodCounts {
					return interceptors.MethodCounts{Method: nameOf(kind), Side: side, Calls: 4, Total: 4 * time.Second, Max: time.Second,
						Codes: map[codes.Code]int64{codes.Aborted: 1, codes.NotFound: 2, codes.Internal: 1}}
				}
				got := counts.Snapshot()
				for i := range got {
					got[i].Method = got[i].Method[1:]
				}
				want := []interceptors.MethodCounts{of(interceptors.ServerSide), of(interceptors.ClientSide)}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(interceptors.MethodCounts{})); diff != "" {
					t.Fatalf("counts (-want +got):\n%s", diff)
				}
				if m := got[0]; m.Errors() != 4 || m.Mean() != time.Second || m.Quantile(0.5) != time.Second {
					t.Errorf("%d errors, mean %v, median %v; want 4, 1s, 1s", m.Errors(), m.Mean(), m.Quantile(0.5))
				}
			})
		})
	}
}

// A quantile is at most a fifth too long, and never too short.
func TestCountsQuantiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := interceptors.NewCounts()
		count := counts.Interceptor()
		random := rand.New(rand.NewPCG(1, 2))
		var took []time.Duration
		for range 2000 {
			d := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
			took = append(took, d)
			_ = count(context.Background(), &interceptors.Call{FullMethod: "/a.B/C"}, func(context.Context) error {
				<-time.After(d)
				return nil
			})
		}
		slices.Sort(took)
		m := counts.Snapshot()[0]
		for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			right := took[int(q*2000)-1]
			if got := m.Quantile(q); got < right || got > max(right*6/5, time.Microsecond) {
				t.Errorf("Quantile(%v) is %v, want %v or a fifth more", q, got, right)
			}
		}
		if m.Max != took[1999] || m.Errors() != 0 || (interceptors.MethodCounts{}).Mean() != 0 || (interceptors.MethodCounts{}).Quantile(0.5) != 0 {
			t.Errorf("max %v, want %v; no errors; and nothing of nothing", m.Max, took[1999])
		}
	})
}

// Names that strangers make up take no more room than a few thousand.
func TestCountsAreBounded(t *testing.T) {
	counts := interceptors.NewCounts()
	count := counts.Interceptor()
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for n := range 5000 {
				_ = count(context.Background(), &interceptors.Call{FullMethod: "/made.Up/" + strconv.Itoa(n+worker)}, func(context.Context) error { return nil })
			}
		})
	}
	wait.Wait()
	all := counts.Snapshot()
	var calls int64
	for _, m := range all {
		calls += m.Calls
	}
	if len(all) > 4097 || calls != 20000 || !slices.ContainsFunc(all, func(m interceptors.MethodCounts) bool { return m.Method == "_OTHER" }) {
		t.Errorf("%d methods and %d calls, want at most 4097 with _OTHER, and 20000", len(all), calls)
	}
}

func TestCountsConform(t *testing.T) {
	interceptorstest.Run(t, interceptors.NewCounts().Interceptor())
}
