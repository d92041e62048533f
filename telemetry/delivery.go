package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errReported marks errors that have been counted and reported already.
var errReported = errors.New("telemetry: not delivered")

// errGivenUp is why an export was aborted: nothing but a shutdown cancels one.
var errGivenUp = errors.New("no answer before the end of Shutdown")

// pauseUnsupported is how long a signal rests that the back end does not take.
const pauseUnsupported = 5 * time.Minute

// delivery sends the batches of one signal to one exporter: it bounds and
// retries each, counts what became of it, and reports trouble through the
// endpoint's reporter, which speaks once for all signals.
type delivery struct {
	signal  string
	timeout time.Duration // of one batch, attempts and waits together
	once    bool          // the exporter retries by itself, if it does
	report  *reporter
	counts  counts
	closing <-chan struct{} // closed when shutdown begins: a dead back end is not waited for
	abort   context.Context // ends when shutdown gives up

	mu          sync.Mutex
	pausedUntil time.Time
	state       State
	lastErr     error     // its text only: a back end may quote the credentials it was sent
	failedAt    time.Time // when lastErr was
}

// counts are of spans, data points or log records.
// lost are the failed ones that somebody expects somewhere.
type counts struct{ exported, failed, lost atomic.Int64 }

// send delivers a batch of n items. export makes one attempt.
func (d *delivery) send(ctx context.Context, n int, export func(context.Context) error) error {
	if d.paused() {
		d.counts.failed.Add(int64(n))
		return errReported
	}
	if ctx.Err() != nil || d.abort.Err() != nil { // no time to encode it, let alone to send it
		d.failed(n, errGivenUp)
		return errReported
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	defer context.AfterFunc(d.abort, cancel)()

	err := d.attempt(ctx, export)
	if rejected, ok := partialSuccess(err); ok {
		d.counts.exported.Add(int64(n) - min(rejected, int64(n)))
		d.counts.failed.Add(min(rejected, int64(n)))
		d.report.partial(d.signal, rejected, err)
		d.succeeded()
		return nil
	}
	if err == nil {
		d.counts.exported.Add(int64(n))
		d.succeeded()
		return nil
	}
	if ctx.Err() == context.Canceled && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled) {
		err = errGivenUp
	}
	d.failed(n, err)
	return errReported
}

func (d *delivery) failed(n int, err error) {
	d.counts.failed.Add(int64(n))
	refused := unsupported(err)
	if !refused && !d.report.unasked() {
		d.counts.lost.Add(int64(n))
	}
	d.mu.Lock()
	d.lastErr, d.failedAt, d.state = errors.New(d.report.diag.redact(cause(err))), time.Now(), StateFailing
	if refused {
		d.state, d.pausedUntil = StateUnsupported, time.Now().Add(pauseUnsupported)
	}
	d.mu.Unlock()
	if refused {
		d.report.unsupported(d.signal, err)
	} else {
		d.report.failed(d.signal, n, err)
	}
}

// attempt tries until it succeeds, cannot succeed, or ctx ends. It returns the
// attempt's error rather than the context's, which says less.
func (d *delivery) attempt(ctx context.Context, export func(context.Context) error) error {
	wait := 500 * time.Millisecond
	for {
		reply := &attemptReply{}
		err := guarded(context.WithValue(ctx, attemptKey{}, reply), export)
		if err != nil && reply.status != 0 {
			err = &httpError{attemptReply: *reply, err: err}
		}
		again, after := retryable(err)
		if !again || d.once {
			return err
		}
		d.report.trying(d.signal, err)
		if !d.sleep(ctx, max(jittered(wait), after)) {
			return err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// jittered is a random time between half of wait and all of it: services that
// lost their back end together do not come back together, as the OTLP
// specification demands.
func jittered(wait time.Duration) time.Duration {
	return wait/2 + rand.N(wait/2+1)
}

// guarded runs an exporter, which may be the user's: its panic is a failed
// batch and not the end of the service.
func guarded(ctx context.Context, export func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the exporter panicked: %v", v)
		}
	}()
	return export(ctx)
}

// sleep waits, and reports whether another attempt is worth it: not after
// shutdown began, unless the back end answered until just now.
func (d *delivery) sleep(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	closing := d.closing
	if !d.isFailing() {
		closing = nil
	}
	select {
	case <-closing:
		return false
	default:
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-closing:
		return false
	case <-ctx.Done():
		return false
	}
}

func (d *delivery) isFailing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state == StateFailing || !d.report.reached()
}

func (d *delivery) paused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.pausedUntil)
}

// wanted reports whether somebody expects this signal there.
func (d *delivery) wanted() bool { return !d.paused() && !d.report.unasked() }

func (d *delivery) succeeded() {
	d.mu.Lock()
	d.state, d.pausedUntil = StateOK, time.Time{}
	d.mu.Unlock()
	d.report.succeeded(d.signal)
}

// attemptReply carries the HTTP answer past the exporter, which hides it.
type attemptReply struct {
	status     int
	retryAfter time.Duration
}

type attemptKey struct{}

// replyRecorder is the transport of OTLP/HTTP.
type replyRecorder struct{ next http.RoundTripper }

func (r replyRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.next.RoundTrip(req)
	if reply, ok := req.Context().Value(attemptKey{}).(*attemptReply); ok && err == nil {
		reply.status = res.StatusCode
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			reply.retryAfter = time.Duration(min(s, 3600)) * time.Second
		}
	}
	return res, err
}

// httpError is an answer of an OTLP/HTTP back end other than success.
type httpError struct {
	attemptReply
	err error
}

func (e *httpError) Error() string { return e.err.Error() }
func (e *httpError) Unwrap() error { return e.err }

// retryable follows the OTLP specification's lists:
// https://opentelemetry.io/docs/specs/otlp/#failures
func retryable(err error) (bool, time.Duration) {
	if err == nil {
		return false, 0
	}
	if _, ok := partialSuccess(err); ok {
		return false, 0
	}
	if he, ok := errors.AsType[*httpError](err); ok {
		switch he.status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true, he.retryAfter
		}
		return false, 0
	}
	s, ok := status.FromError(err)
	if !ok {
		return true, 0 // the network's, of OTLP/HTTP
	}
	var after time.Duration
	info := false
	for _, detail := range s.Details() {
		if r, ok := detail.(*errdetails.RetryInfo); ok {
			after, info = r.GetRetryDelay().AsDuration(), true
		}
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return true, after
	case codes.ResourceExhausted:
		return info, after
	}
	return false, 0
}

// unsupported tells a back end that does not take this signal, as Jaeger does not take logs.
func unsupported(err error) bool {
	if he, ok := errors.AsType[*httpError](err); ok {
		return he.status == http.StatusNotFound || he.status == http.StatusMethodNotAllowed || he.status == http.StatusNotImplemented
	}
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.Unimplemented
}

// partialSuccess returns the number of items an otherwise successful request
// had rejected. The exporters' error type is internal; its text is not.
func partialSuccess(err error) (rejected int64, ok bool) {
	if err == nil {
		return 0, false
	}
	_, text, found := strings.Cut(err.Error(), "OTLP partial success: ")
	if !found {
		return 0, false
	}
	if i := strings.LastIndexByte(text, '('); i >= 0 {
		_, _ = fmt.Sscanf(text[i:], "(%d", &rejected)
	}
	return rejected, true
}
