package interceptors

import (
	"context"
	"runtime"
	"sync"
	"weak"

	"go.opentelemetry.io/otel/metric"
)

// observeActive makes rpcscope.*.active_calls tell how many calls of each method
// are under way, at the moment somebody asks. A synchronous counter would be
// told twice a call, which costs more than anything else that is recorded when
// a call begins.
//
// Engines that share a meter may have the same method, as clients of one server
// do: what they observe under the same attributes the SDK adds up, as it does
// where a view takes attributes away.
func (e *engine) observeActive(meter metric.Meter) error {
	active, err := meter.Int64ObservableUpDownCounter("rpcscope."+e.side.String()+".active_calls",
		metric.WithDescription("Calls that have begun and not ended yet."), metric.WithUnit("{call}"))
	if err != nil {
		return err
	}
	return e.whenAsked(meter, active, func(e *engine, o metric.Observer) {
		e.eachMethod(func(m *method) { o.ObserveInt64(active, m.active.Load(), m.level) })
	})
}

// whenAsked has observe called whenever somebody asks for what i tells. An engine
// that nobody can use any more, that of a closed connection, is not kept, and no
// longer observes.
func (e *engine) whenAsked(meter metric.Meter, i metric.Observable, observe func(*engine, metric.Observer)) error {
	observed := weak.Make(e)
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if e := observed.Value(); e != nil {
			observe(e, o)
		}
		return nil
	}, i)
	if err != nil {
		return err
	}
	runtime.AddCleanup(e, func(r metric.Registration) { _ = r.Unregister() }, registration)
	return nil
}

// note makes x one of those that are known.
func note(known *sync.Map, x any) {
	if _, ok := known.Load(x); !ok {
		known.Store(x, struct{}{})
	}
}

// eachMethod calls f with every method that was called.
func (e *engine) eachMethod(f func(*method)) {
	if known := e.methods.known.Load(); known != nil {
		for _, m := range *known {
			f(m)
		}
	}
	for _, m := range e.others {
		if m.called.Load() {
			f(m)
		}
	}
}

func (m *method) begin() {
	m.active.Add(1)
	if !m.called.Load() {
		m.called.Store(true)
	}
}

func (m *method) end() { m.active.Add(-1) }
