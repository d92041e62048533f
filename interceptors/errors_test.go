package interceptors_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
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
		{"", true, false}, {"logs", false, true}, {" logs/dup ", true, true},
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

// An unknown method is Unimplemented without an error of this server's.
func TestRule18NoExceptionWithoutError(t *testing.T) {
	t.Setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup")
	h := start(t, &stub{}, nil)
	if err := h.conn.Invoke(h.ctx(), "/no.Such/Method", &testpb.SimpleRequest{}, &testpb.SimpleResponse{}); errors.Code(err) != codes.Unimplemented {
		t.Fatalf("got %v, want Unimplemented", err)
	}
	if events := h.ended(2)[1].Events(); len(events) != 0 {
		t.Errorf("events %v, want none", events)
	}
	if got := exceptionOf(h.record("server")); len(got) != 0 {
		t.Errorf("the log has %v, want no exception", got)
	}
}

// Another value of the variable is said to be wrong, and is the default.
func TestExceptionSignalIsChecked(t *testing.T) {
	var said []string
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { said = append(said, err.Error()) }))
	t.Cleanup(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })
	t.Setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "spans")
	h := start(t, failing(func(context.Context) error { return errors.Internal(errDisk) }), nil)
	_ = h.call(h.ctx(), interceptors.Unary)
	want := []string{`interceptors: OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN="spans": want logs, logs/dup or nothing; exceptions are span events`}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	if events := h.ended(2)[1].Events(); len(events) != 1 {
		t.Errorf("events %v, want one exception", events)
	}
}

// The promise of the suite: an error of a code, returned or wrapped deep below,
// anywhere in a call of any kind, is what the caller sees, typed, with its text
// and nothing more (rules 12 and 14).
func TestRule12ReturnAnErrorAnywhere(t *testing.T) {
	deep := func(err error) error {
		for i := range 10 {
			err = fmt.Errorf("layer %d at 10.0.0.1: %w", i, err)
		}
		return err
	}
	notFound := errors.NotFound("user %d does not exist", 7)
	for way, err := range map[string]error{
		"returned":         notFound,
		"wrapped deep":     deep(notFound),
		"with a cause":     errors.NotFound("user 7 does not exist: %w", deep(sql.ErrNoRows)),
		"as a sentinel":    deep(errors.Wrap(deep(sql.ErrNoRows), errGone.With("id", 7))),
		"joined":           errors.Join(errors.New("close 10.0.0.1"), deep(notFound)),
		"explicit status":  deep(status.Error(codes.NotFound, "user 7 does not exist")),
		"a mapper's":       deep(errMapped),
		"in a panic's way": recoverAs(notFound),
	} {
		for _, chained := range []bool{false, true} {
			for _, kind := range kinds {
				t.Run(way+"/"+name(kind, chained), func(t *testing.T) {
					add := chain(chained)
					h := start(t, failing(func(context.Context) error { return err }), func(h *harness) {
						if add != nil {
							add(h)
						}
						h.servers = append(h.servers, interceptors.WithErrorConverter(errors.NewConverter(errors.WithMapper(mapOwn))))
					})
					got := h.call(h.ctx(), kind)
					typed, ok := errors.AsType[*errors.Error](got)
					if !ok || !typed.Remote() {
						t.Fatalf("the caller got %#v, want a remote *errors.Error", got)
					}
					if typed.Code() != codes.NotFound || typed.Message() != "user 7 does not exist" || errors.Is(got, errGone) != (way == "as a sentinel") {
						t.Errorf("the caller got %v, want NotFound: user 7 does not exist", got)
					}
					if wire := status.Convert(got); wire.Code() != codes.NotFound || strings.Contains(wire.Proto().String(), "10.0.0.1") {
						t.Errorf("on the wire: %v, want nothing of what wraps it", wire.Proto())
					}
					for _, span := range h.ended(2) {
						if text := fmt.Sprint(attrs(span.Attributes()), span.Status()); strings.Contains(text, "10.0.0.1") {
							t.Errorf("the %s span tells the private text: %s", span.SpanKind(), text)
						}
					}
					if text, _ := h.record("server")["error.message"].(string); text != err.Error() && !strings.HasSuffix(text, err.Error()) {
						t.Errorf("the server logs %q, want all of %q", text, err)
					}
				})
			}
		}
	}
}

var (
	errGone   = errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} does not exist")
	errMapped = errors.New("record is absent")
)

func mapOwn(err error) *errors.Error {
	if errors.Is(err, errMapped) {
		return errors.NotFound("user 7 does not exist")
	}
	return nil
}

// recoverAs is what a handler returns that turns panics into errors itself.
func recoverAs(want error) (err error) {
	defer func() { err, _ = recover().(error) }()
	panic(want)
}

// Whatever nobody has classified is Unknown, and its text stays at home.
func TestRule12UnclassifiedIsUnknown(t *testing.T) {
	for _, kind := range kinds {
		for name, err := range map[string]error{"plain": errors.New("dial 10.0.0.1"), "end of file": io.EOF, "wrapped": fmt.Errorf("read 10.0.0.1: %w", io.ErrUnexpectedEOF)} {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				h := start(t, failing(func(context.Context) error { return err }), nil)
				got := status.Convert(h.call(h.ctx(), kind))
				if diff := cmp.Diff(&spb.Status{Code: int32(codes.Unknown), Message: "unknown error"}, got.Proto(), protocmp.Transform()); diff != "" {
					t.Errorf("the caller got (-want +got):\n%s", diff)
				}
				server := h.ended(2)[1]
				if server.Status().Description != "unknown error" || len(server.Events()) != 1 || attrs(server.Events()[0].Attributes)["exception.message"] != "Unknown: "+err.Error() {
					t.Errorf("status %v, events %v; want the public text, and one exception of %q", server.Status(), server.Events(), err)
				}
			})
		}
	}
}

// A status that the handler made goes over the wire as it is, however deep it is
// wrapped and whatever the converter adds to other errors.
func TestExplicitStatusIsNotOverwritten(t *testing.T) {
	var details []*anypb.Any
	for _, m := range []proto.Message{
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}, &errdetails.ErrorInfo{Reason: "R"}, &errdetails.Help{},
		&errdetails.ErrorInfo{Reason: "SECOND"},
	} {
		p, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		details = append(details, p)
	}
	details = append(details, &anypb.Any{TypeUrl: "type.example.com/not.linked.In", Value: []byte{0xff, 0x00}})
	want := &spb.Status{Code: int32(codes.FailedPrecondition), Message: "as it is", Details: details}
	for _, kind := range kinds {
		h := start(t, failing(func(context.Context) error { return fmt.Errorf("wrapped: %w", status.ErrorProto(want)) }), func(h *harness) {
			h.servers = append(h.servers, interceptors.WithErrorConverter(errors.NewConverter(errors.WithDomain("other"), errors.WithMapper(mapOwn))))
		})
		err := h.call(h.ctx(), kind)
		if diff := cmp.Diff(want, status.Convert(err).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", kind, diff)
		}
		if _, reason := errors.Reason(err); reason != "R" {
			t.Errorf("%s: the reason is %q, want R", kind, reason)
		}
	}
}

// All codes on all kinds, as typed errors: what the caller sees, span status
// (rule 18), exceptions and the counters by code, domain and reason.
func TestRule14EveryCodeTyped(t *testing.T) {
	faults := []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for _, kind := range kinds {
			t.Run(code.String()+"/"+kind.String(), func(t *testing.T) {
				sentinel := errors.Define(code, "users.example.com", "REASON", "about {id}")
				h := start(t, failing(func(context.Context) error { return sentinel.With("id", 7).WithRetry(time.Second).WithCause(errDisk) }), nil)
				err := h.call(h.ctx(), kind)
				if wait, ok := errors.RetryAfter(err); !errors.Is(err, sentinel) || errors.Code(err) != code || errors.Message(err) != "about 7" || wait != time.Second || !ok {
					t.Errorf("the caller got %v, retry after %v, want %v and 1s", err, wait, sentinel)
				}
				fault := slices.Contains(faults, code)
				spans := h.ended(2)
				for i, failed := range []bool{true, fault} { // client, server
					want, text := otelcodes.Unset, ""
					if failed {
						want, text = otelcodes.Error, "about 7"
					}
					got := attrs(spans[i].Attributes())
					if _, typed := got["error.type"]; spans[i].Status().Code != want || spans[i].Status().Description != text || typed != failed {
						t.Errorf("%s span: status %v, error.type %v, want %v %q", spans[i].SpanKind(), spans[i].Status(), got["error.type"], want, text)
					}
					if got["error.domain"] != "users.example.com" || got["error.reason"] != "REASON" {
						t.Errorf("%s span: attributes %v", spans[i].SpanKind(), got)
					}
				}
				if n := len(spans[1].Events()); (n == 1) != fault || n > 1 || len(spans[0].Events()) != 0 {
					t.Errorf("exceptions: %v on the server, %v on the client", spans[1].Events(), spans[0].Events())
				}
				for _, side := range []string{"server", "client"} {
					for key, want := range map[attribute.Key]any{"error.domain": "users.example.com", "error.reason": "REASON",
						"rpc.response.status_code": attrs(spans[1].Attributes())["rpc.response.status_code"]} {
						h.counted("rpcscope."+side+".errors", key, map[string]int64{want.(string): 1})
					}
				}
			})
		}
	}
}

// Domains and reasons are bounded where they are attributes of a metric: peers
// choose them.
func TestErrorReasonsAreBounded(t *testing.T) {
	var n atomic.Int64
	h := start(t, failing(func(context.Context) error {
		return errors.NotFound("x").WithReason("d", fmt.Sprintf("REASON_%d", n.Add(1)))
	}), nil)
	const calls = 300
	for range calls {
		_ = h.call(h.ctx(), interceptors.Unary)
	}
	for _, side := range []string{"server", "client"} {
		got := h.counts("rpcscope."+side+".errors", "error.reason")
		if len(got) != 257 || got["_OTHER"] != calls-256 || got["REASON_1"] != 1 {
			t.Errorf("%s: %d reasons, %d calls under _OTHER; want 257, %d", side, len(got), got["_OTHER"], calls-256)
		}
	}
}

// Rule 16: the end of a stream is io.EOF itself.
func TestRule16EOFUntouched(t *testing.T) {
	h := start(t, &stub{}, nil)
	cs, err := h.client.StreamingOutputCall(h.ctx(), &testpb.StreamingOutputCallRequest{})
	for err == nil {
		_, err = cs.Recv()
	}
	if err != io.EOF {
		t.Errorf("got %#v, want io.EOF itself", err)
	}
}

// Rule 17: what a service that a handler called says is not what the handler's
// caller is told, unless it is forwarded; in the span it can be read.
func TestRule17DependencyOverTheWire(t *testing.T) {
	for _, kind := range kinds {
		for name, test := range map[string]struct {
			answer func(error) error
			want   codes.Code
			text   string
			policy errors.RemotePolicy
		}{
			"translated": {func(err error) error { return fmt.Errorf("ask: %w", err) }, codes.Internal, "internal error", nil},
			"forwarded":  {errors.Forward, codes.NotFound, "user 7 does not exist", nil},
			"passed":     {func(err error) error { return fmt.Errorf("ask: %w", err) }, codes.NotFound, "user 7 does not exist", errors.Pass},
			"own":        {func(err error) error { return errors.Wrap(err, errors.Aborted("try again")) }, codes.Aborted, "try again", nil},
		} {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				dependency := start(t, failing(func(context.Context) error { return errGone.With("id", 7) }), nil)
				h := start(t, failing(func(ctx context.Context) error { return test.answer(dependency.call(ctx, kind)) }), func(h *harness) {
					h.servers = append(h.servers, interceptors.WithErrorConverter(errors.NewConverter(errors.WithRemotePolicy(test.policy))))
				})
				err := h.call(h.ctx(), kind)
				if errors.Code(err) != test.want || errors.Message(err) != test.text || errors.Is(err, errGone) != (test.want == codes.NotFound) {
					t.Errorf("the caller got %v, want %v: %s", err, test.want, test.text)
				}
				server := h.ended(2)[1]
				if events := server.Events(); test.want == codes.Internal && (len(events) != 1 || !strings.Contains(fmt.Sprint(attrs(events[0].Attributes)["exception.message"]), "user 7 does not exist")) {
					t.Errorf("events %v, want what the dependency said", events)
				}
			})
		}
	}
}

// The request id goes as RequestInfo where the converter is told to, so that a
// person can quote it who sees nothing but the error.
func TestRequestInfo(t *testing.T) {
	for _, kind := range kinds {
		h := start(t, failing(func(context.Context) error { return errors.NotFound("x") }), func(h *harness) {
			h.servers = append(h.servers, interceptors.WithErrorConverter(errors.NewConverter(errors.WithRequestInfo(propagation.RequestID))))
		})
		err := h.call(propagation.ContextWithRequestID(h.ctx(), "r-1"), kind)
		if info, ok := errors.Detail[*errdetails.RequestInfo](err); !ok || info.GetRequestId() != "r-1" {
			t.Errorf("%s: got %v, want r-1", kind, info)
		}
	}
}

// Rules 11 and 14: the caller's own deadline is an error of the call and the
// context's.
func TestRule11OwnDeadline(t *testing.T) {
	for _, kind := range kinds {
		h := start(t, blockingStub(), nil)
		ctx, cancel := context.WithTimeout(h.ctx(), 20*time.Millisecond)
		err := h.call(ctx, kind)
		cancel()
		if errors.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want context.DeadlineExceeded", kind, err)
		}
	}
}

// Rule 10: an error or a mapper that panics when it is looked at ends the call,
// not the process.
func TestRule10ErrorThatPanics(t *testing.T) {
	panics := func(error) *errors.Error { panic("of the mapper") }
	for name, test := range map[string]struct {
		err    error
		mapper errors.Mapper
		code   codes.Code
		text   string
	}{
		"typed nil":        {(*fs.PathError)(nil), nil, codes.Internal, "Internal: interceptors: converting *fs.PathError: panic: runtime error: invalid memory address or nil pointer dereference"},
		"mapper":           {errors.New("x"), panics, codes.Internal, "Internal: interceptors: converting *errors.errorString: panic: of the mapper"},
		"text":             {textless{}, nil, codes.Unknown, "Unknown: %!v(PANIC=Error method: no text)"},
		"text of its own":  {errors.NotFound("x").WithCause(textless{}), nil, codes.NotFound, "NotFound: x: %!v(PANIC=Error method: no text)"},
		"text of a nested": {errors.Join(textless{}, errDisk), nil, codes.Unknown, "Unknown: %!v(PANIC=Error method: no text)"},
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				h := start(t, failing(func(context.Context) error { return test.err }), func(h *harness) {
					h.servers = append(h.servers, interceptors.WithErrorConverter(errors.NewConverter(errors.WithMapper(test.mapper))))
				})
				if got := status.Convert(h.call(h.ctx(), kind)); got.Code() != test.code || strings.Contains(got.Message(), "panic") {
					t.Errorf("the caller got %v, want %v", got, test.code)
				}
				if got := h.record("server")["error.message"]; got != test.text {
					t.Errorf("the log has %q, want %q", got, test.text)
				}
				var panicked int64
				if test.code == codes.Internal {
					panicked = 1
				}
				if got := h.counts("rpcscope.server.panics", "rpc.system.name")["grpc"]; got != panicked {
					t.Errorf("panics: %d, want %d", got, panicked)
				}
			})
		}
	}
}

// textless is an error that cannot say what it is.
type textless struct{}

func (textless) Error() string { panic("no text") }

const headerLimitChild = "RPCSCOPE_TEST_ENGINE_8KB"

// Rule 15: where 8 KB header limits are on, an error of 100 KB ends its own call
// with the right code, and ten others on the connection go on.
func TestRule15HeaderLimit(t *testing.T) {
	if os.Getenv(headerLimitChild) != "" {
		for _, kind := range kinds {
			t.Run(kind.String(), func(t *testing.T) { checkHeaderLimit(t, kind) })
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRule15HeaderLimit$", "-test.v")
	cmd.Env = append(os.Environ(), headerLimitChild+"=1", "GRPC_GO_EXPERIMENTAL_ENABLE_8KB_DEFAULT_HEADER_LIST_SIZE=true")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: TestRule15HeaderLimit/") != len(kinds) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func checkHeaderLimit(t *testing.T, kind interceptors.Kind) {
	const others = 10
	var calls atomic.Int64
	started, release := make(chan struct{}, others), make(chan struct{})
	h := start(t, failing(func(context.Context) error {
		if calls.Add(1) <= others {
			started <- struct{}{}
			<-release
			return errors.Aborted("small")
		}
		return errGone.With("id", 7).With("long", strings.Repeat("v", 30_000)).WithField("f", "F", strings.Repeat("ü", 20_000)).
			WithDetails(&errdetails.Help{Links: []*errdetails.Help_Link{{Url: strings.Repeat("u", 30_000)}}})
	}), nil)
	results := make(chan error, others)
	for range others {
		go func() { results <- h.call(h.ctx(), kind) }()
	}
	for range others {
		<-started
	}
	err := h.call(h.ctx(), kind)
	close(release)
	if !errors.Is(err, errGone) || errors.Code(err) != codes.NotFound || errors.Message(err) != "user 7 does not exist" {
		t.Errorf("the large error: got %v, want %v", err, errGone)
	}
	for range others {
		if err := <-results; errors.Code(err) != codes.Aborted || errors.Message(err) != "small" {
			t.Errorf("another call on the connection: got %v, want Aborted: small", err)
		}
	}
}

// Rule 16: a code that gRPC does not define, the largest too, keeps its number
// on the span and is _OTHER in metrics.
func TestRule16UndefinedCodes(t *testing.T) {
	for _, code := range []codes.Code{17, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		for _, kind := range kinds {
			h := start(t, failing(func(context.Context) error { return status.Error(code, "odd") }), nil)
			readable := code < 1<<31 // by gRPC's client
			if err := h.call(h.ctx(), kind); readable && errors.Code(err) != code {
				t.Errorf("%s: got %v, want code %d", kind, err, code)
			}
			spans := h.ended(2)
			for i, side := range []string{"client", "server"} {
				if side == "client" && !readable {
					continue
				}
				if got, want := attrs(spans[i].Attributes())["rpc.response.status_code"], fmt.Sprintf("CODE(%d)", code); got != want {
					t.Errorf("%s: code of the %s span: %v, want %s", kind, side, got, want)
				}
				if got := h.counts("rpcscope."+side+".errors", "rpc.response.status_code"); got["_OTHER"] != 1 || len(got) != 1 {
					t.Errorf("%s: rpcscope.%s.errors by code: %v, want one _OTHER", kind, side, got)
				}
			}
		}
	}
}
