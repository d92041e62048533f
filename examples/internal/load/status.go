package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// stale is how long after the last call that ended as the scenario wants a run still counts as well.
const stale = 15 * time.Second

// serveStatus serves how the run goes on address: its progress line, with status 200 while calls end as the scenario wants,
// else 503. It returns where, and what ends it.
func (o *options) serveStatus(ctx context.Context, tally *Tally) (url string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.status)
	if err != nil {
		return "", nil, fmt.Errorf("-status: %w", err)
	}
	server := &http.Server{Handler: o.statusOf(tally), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // it says only that it was closed
	}()
	stop = func() {
		_ = server.Close() // so does this
		<-served
	}
	return "http://" + l.Addr().String() + "/", stop, nil
}

func (o *options) statusOf(tally *Tally) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		since, ok := tally.SinceWanted()
		if !ok || since > stale {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, tally.Total().line(o.scenario.Name, o.plan.Duration))
	}
}
