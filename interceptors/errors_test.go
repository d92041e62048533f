package interceptors_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// failing is a stub all of whose methods fail, the streams half-way: once a
// message has come and, where the server may send several, one has gone.
func failing(fail func(context.Context) error) *stub {
	return &stub{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, fail(ctx)
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			if _, err := ss.Recv(); err != nil {
				return err
			}
			return fail(ss.Context())
		},
		serverStream: func(_ *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
			return fail(ss.Context())
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			if _, err := ss.Recv(); err != nil {
				return err
			}
			if err := ss.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
			return fail(ss.Context())
		},
	}
}

// record is the access log's one record of a side.
func (h *harness) record(side string) map[string]any {
	h.t.Helper()
	h.idle()
	var found []map[string]any
	for _, r := range h.logs.records(h.t) {
		if r["msg"] == side+" call" {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d records of the %s, want one: %v", len(found), side, found)
	}
	return found[0]
}

// exceptionOf are the exception's attributes among those of an event or record.
func exceptionOf(all map[string]any) map[string]any {
	found := maps.Clone(all)
	maps.DeleteFunc(found, func(key string, _ any) bool { return !strings.HasPrefix(key, "exception.") })
	return found
}

//go:noinline
func readTheDisk() error { return errors.Internal(fmt.Errorf("read: %w", errDisk)) }

type diskError struct{}

func (*diskError) Error() string { return "sector 7 of 10.0.0.1 is bad" }

var errDisk = &diskError{}

// Rule 18: a server's fault is one exception, with the stack of where it was
// made, on the span, in the log or on both as the environment says. The client
// has none, nor has an error that is the caller's.
func TestRule18ExceptionSignal(t *testing.T) {
	for _, test := range []struct {
		value      string
		event, log bool
	}{
		{"", true, false}, {"logs", false, true}, {" logs/dup ", true, true}, {"spans", true, false},
	} {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%q/%s", test.value, kind), func(t *testing.T) {
				t.Setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", test.value)
				fails := []error{fmt.Errorf("load: %w", readTheDisk()), errors.NotFound("user 7")}
				var call int
				h := start(t, failing(func(context.Context) error { call++; return fails[call-1] }), func(h *harness) {
					if test.value == "logs" {
						h.servers = append(h.servers, interceptors.WithoutLogging())
					}
				})
				_ = h.call(h.ctx(), kind)
				spans := h.ended(2)
				if len(spans[0].Events()) != 0 {
					t.Errorf("the client's events: %v, want none", spans[0].Events())
				}
				check := func(where string, want bool, got map[string]any) {
					stack, _ := got["exception.stacktrace"].(string)
					delete(got, "exception.stacktrace")
					wantAttrs := map[string]any{}
					if want {
						wantAttrs = map[string]any{"exception.type": "*interceptors_test.diskError",
							"exception.message": "load: Internal: read: sector 7 of 10.0.0.1 is bad"}
					}
					if diff := cmp.Diff(wantAttrs, got); diff != "" {
						t.Errorf("exception in the %s (-want +got):\n%s", where, diff)
					}
					if strings.HasPrefix(stack, "github.com/rpcscope/rpcscope/interceptors_test.readTheDisk(...)\n\t") != want {
						t.Errorf("stack in the %s:\n%s", where, stack)
					}
				}
				event := map[string]any{}
				if events := spans[1].Events(); len(events) == 1 && events[0].Name == "exception" {
					event = attrs(events[0].Attributes)
				} else if len(events) != 0 {
					t.Errorf("events %v, want at most one exception", events)
				}
				check("span", test.event, event)
				if test.log || test.value != "logs" {
					check("log", test.log, exceptionOf(h.record("server")))
				}
				check("client's log", false, exceptionOf(h.record("client")))

				_ = h.call(h.ctx(), kind)
				h.idle()
				if events := h.ended(4)[3].Events(); len(events) != 0 {
					t.Errorf("NotFound has events %v, want none", events)
				}
				logged := slices.ContainsFunc(h.logs.records(t), func(r map[string]any) bool {
					return r["rpc.response.status_code"] == "NOT_FOUND" && len(exceptionOf(r)) > 0
				})
				if logged {
					t.Errorf("NotFound is logged as an exception: %s", h.logs)
				}
			})
		}
	}
}

// Another value of the variable is said to be wrong, and is the default.
func TestExceptionSignalIsChecked(t *testing.T) {
	var said []string
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { said = append(said, err.Error()) }))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	t.Setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "spans")
	interceptors.ServerOptions()
	interceptors.DialOptions()
	want := []string{`interceptors: OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN="spans": want logs, logs/dup or nothing; exceptions are span events`}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
}
