package interceptors_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	otelpropagation "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rpcscope/rpcscope/interceptors"
)

// The three that are compared: the suite's own engine, otelgrpc as its engine,
// and otelgrpc alone, which is the oracle.
const (
	own = iota
	onOTelGRPC
	oracle
)

var observers = [...]string{own: "own", onOTelGRPC: "on otelgrpc", oracle: "otelgrpc alone"}

// scenario is what the three observe.
type scenario struct {
	stub   func() *stub
	call   func(*harness)
	target string // a format of the port; empty: passthrough, the address as it is
	server []grpc.ServerOption
	dial   []grpc.DialOption
	suite  []interceptors.Option
	peer   []otelgrpc.Option // what otelgrpc is given to do what suite does
}

// observation is all there is to say about the spans and durations of a
// scenario, a value for each path.
type observation map[string]any

// observe runs the scenario and returns what was recorded of it when client and
// server are gone.
func (s *scenario) observe(t *testing.T, who int) observation {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t)
	mp := h.rec.Telemetry().MeterProvider()
	var servers []grpc.ServerOption
	var dial []grpc.DialOption
	if who == oracle {
		peer := append([]otelgrpc.Option{otelgrpc.WithTracerProvider(h.tp), otelgrpc.WithMeterProvider(mp),
			otelgrpc.WithPropagators(otelpropagation.TraceContext{})}, s.peer...)
		servers = append(servers, grpc.StatsHandler(otelgrpc.NewServerHandler(peer...)))
		dial = append(dial, grpc.WithStatsHandler(otelgrpc.NewClientHandler(peer...)))
	} else {
		options := append([]interceptors.Option{interceptors.WithTracerProvider(h.tp), interceptors.WithMeterProvider(mp),
			interceptors.WithPropagator(otelpropagation.TraceContext{}), interceptors.WithLogger(slog.New(slog.NewJSONHandler(h.logs, nil)))}, s.suite...)
		if who == onOTelGRPC {
			options = append(options, interceptors.WithOTelGRPC())
		}
		both(nil, options...)(h)
		servers, dial = interceptors.ServerOptions(h.servers...), interceptors.DialOptions(h.clients...)
	}
	h.server = grpc.NewServer(append(servers, s.server...)...)
	testpb.RegisterTestServiceServer(h.server, s.stub())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.server.Serve(listener)
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	target := s.target
	if target == "" {
		target = "passthrough:///127.0.0.1:%d"
	}
	h.conn, err = grpc.NewClient(fmt.Sprintf(target, port), append(append(dial, grpc.WithTransportCredentials(insecure.NewCredentials())), s.dial...)...)
	if err != nil {
		t.Fatal(err)
	}
	h.client = testpb.NewTestServiceClient(h.conn)
	s.call(h)
	_ = h.conn.Close()
	h.server.GracefulStop() // waits for the handlers
	<-served
	got := h.observation(int64(port))
	if who != own {
		for _, s := range h.rec.Open() { // otelgrpc leaves some, and the recorder fails a test for that
			s.ReadOnlySpan.(sdktrace.ReadWriteSpan).End()
		}
	}
	return got
}

func (h *harness) observation(port int64) observation {
	got := observation{}
	value := func(key string, v any) any {
		switch {
		case key == "request.id":
			return "an id"
		case key == "server.port" && v == port:
			return "the port"
		}
		return v
	}
	spans := slices.Clone(h.spans.Ended())
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	paths := map[trace.SpanID]string{}
	number := map[trace.SpanKind]int{}
	for _, s := range spans {
		paths[s.SpanContext().SpanID()] = fmt.Sprintf("%s span %d: ", s.SpanKind(), number[s.SpanKind()])
		number[s.SpanKind()]++
	}
	for _, s := range spans {
		path := paths[s.SpanContext().SpanID()]
		parent := "none"
		if s.Parent().IsValid() {
			parent = strings.TrimSuffix(paths[s.Parent().SpanID()], ": ")
			got[path+"remote parent"] = s.Parent().IsRemote()
		}
		var events []string
		for _, e := range s.Events() {
			events = append(events, e.Name)
		}
		got[path+"name"], got[path+"parent"] = s.Name(), parent
		got[path+"status"], got[path+"description"] = s.Status().Code.String(), s.Status().Description
		got[path+"events"], got[path+"links"] = strings.Join(events, " "), len(s.Links())
		got[path+"scope"] = s.InstrumentationScope().Name
		for k, v := range attrs(s.Attributes()) {
			got[path+k] = value(k, v)
		}
	}
	for _, s := range h.spans.Started() {
		if paths[s.SpanContext().SpanID()] == "" {
			n, _ := got[s.SpanKind().String()+" spans that never ended"].(int)
			got[s.SpanKind().String()+" spans that never ended"] = n + 1
		}
	}
	for _, side := range []string{"client", "server"} {
		got[side+" spans"] = number[map[string]trace.SpanKind{"client": trace.SpanKindClient, "server": trace.SpanKindServer}[side]]
		h.durations(got, side, value)
	}
	return got
}

// durations adds what is to be said of the call durations of a side.
func (h *harness) durations(got observation, side string, value func(string, any) any) {
	rm := h.rec.Collect()
	got[side+" points"] = 0
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name != "rpc."+side+".call.duration" {
				continue
			}
			path := side + " duration: "
			data := m.Data.(metricdata.Histogram[float64])
			got[path+"unit"], got[path+"of what"] = m.Unit, m.Description
			got[path+"scope"], got[path+"temporality"] = sm.Scope.Name, data.Temporality.String()
			got[side+" points"] = len(data.DataPoints)
			slices.SortFunc(data.DataPoints, func(a, b metricdata.HistogramDataPoint[float64]) int {
				return strings.Compare(fmt.Sprint(a.Attributes.ToSlice()), fmt.Sprint(b.Attributes.ToSlice()))
			})
			for i, p := range data.DataPoints {
				path := fmt.Sprintf("%s point %d: ", side, i)
				got[path+"count"], got[path+"exemplars"] = p.Count, len(p.Exemplars)
				got[path+"bounds"] = fmt.Sprint(p.Bounds)
				for k, v := range attrs(p.Attributes.ToSlice()) {
					got[path+k] = value(k, v)
				}
			}
		}
	}
}

// missing is the value of a path that somebody has not observed.
const missing = "-"

// disagreement is what an observer has where the oracle has something else.
type disagreement map[string][2]any

func disagree(got, oracle observation) disagreement {
	d := disagreement{}
	at := func(o observation, path string) any {
		if v, ok := o[path]; ok {
			return v
		}
		return missing
	}
	for _, o := range []observation{got, oracle} {
		for path := range o {
			if a, b := at(got, path), at(oracle, path); a != b {
				d[path] = [2]any{a, b}
			}
		}
	}
	return d
}

// outcome is one ordinary call: what all three observe correctly.
type outcome struct {
	kind interceptors.Kind
	code codes.Code
}

func (o outcome) serverFault() bool {
	return slices.Contains([]codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss}, o.code)
}

// deliberate are the differences from otelgrpc that there are on purpose, on
// ordinary calls, with the reason. A difference that no call shows any more
// fails the test, as does one that is not listed.
var deliberate = []struct {
	name, reason string
	of           func(who int, o outcome) disagreement
}{
	{"request.id on spans", "finds the trace of a request of which only the id is known", func(int, outcome) disagreement {
		return disagreement{"client span 0: request.id": {"an id", missing}, "server span 0: request.id": {"an id", missing}}
	}},
	{"error.type on spans", "the semantic conventions ask for it where the status is an error; otelgrpc has it on points only", func(who int, o outcome) disagreement {
		d := disagreement{}
		if o.code != codes.OK && who == own {
			d["client span 0: error.type"] = [2]any{canonical(o.code), missing}
		}
		if o.serverFault() {
			d["server span 0: error.type"] = [2]any{canonical(o.code), missing}
		}
		return d
	}},
	{"exception on server spans", "what went wrong, where the caller must not see it (rule 18)", func(_ int, o outcome) disagreement {
		if o.serverFault() {
			return disagreement{"server span 0: events": {"exception", ""}}
		}
		return nil
	}},
	{"instrumentation scope", "names the library that made it", func(who int, _ outcome) disagreement {
		if who == onOTelGRPC {
			return nil
		}
		const scope = "github.com/rpcscope/rpcscope/interceptors"
		d := disagreement{}
		for _, path := range []string{"client span 0: ", "server span 0: ", "client duration: ", "server duration: "} {
			d[path+"scope"] = [2]any{scope, otelgrpc.ScopeName}
		}
		return d
	}},
}

// For ordinary calls of every kind, with every code, on both sides, spans and
// durations are otelgrpc's, attribute by attribute.
func TestOracle(t *testing.T) {
	seen := make([]bool, len(deliberate))
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		for _, kind := range kinds {
			o := outcome{kind, code}
			s := scenario{stub: func() *stub { return told(code) }, call: func(h *harness) {
				if got := status.Code(h.call(h.ctx(), kind)); got != code {
					h.t.Fatalf("the caller got %v, want %v", got, code)
				}
			}}
			reference := s.observe(t, oracle)
			if reference["client points"] != 1 || reference["server points"] != 1 || reference["server span 0: parent"] != "client span 0" {
				t.Fatalf("the oracle has not seen one call: %v", reference)
			}
			for _, who := range []int{own, onOTelGRPC} {
				t.Run(observers[who]+"/"+canonical(code)+"/"+kind.String(), func(t *testing.T) {
					want := disagreement{}
					for i, d := range deliberate {
						for path, values := range d.of(who, o) {
							want[path] = values
							seen[i] = true
						}
					}
					if diff := cmp.Diff(want, disagree(s.observe(t, who), reference)); diff != "" {
						t.Errorf("differences from otelgrpc that are not listed (+), or listed and not there (-):\n%s", diff)
					}
				})
			}
		}
	}
	for i, d := range deliberate {
		if !seen[i] {
			t.Errorf("no call shows the difference %q (%s)", d.name, d.reason)
		}
	}
}

// told answers with code once it has taken in the whole request.
func told(code codes.Code) *stub {
	fail := func() error { return status.Error(code, "told you") } // nil for OK
	good := &stub{}
	takeIn := func(recv func() error) error {
		for {
			if err := recv(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return &stub{
		unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{}, fail()
		},
		clientStream: func(ss testpb.TestService_StreamingInputCallServer) error {
			if err := takeIn(func() error { _, err := ss.Recv(); return err }); err != nil {
				return err
			}
			if err := fail(); err != nil {
				return err
			}
			return ss.SendAndClose(&testpb.StreamingInputCallResponse{})
		},
		serverStream: func(in *testpb.StreamingOutputCallRequest, ss testpb.TestService_StreamingOutputCallServer) error {
			if err := good.StreamingOutputCall(in, ss); err != nil {
				return err
			}
			return fail()
		},
		bidi: func(ss testpb.TestService_FullDuplexCallServer) error {
			if err := good.FullDuplexCall(ss); err != nil {
				return err
			}
			return fail()
		},
	}
}

// known are the calls that otelgrpc does not see correctly. Of the paths that
// look matches, the three have what want says: own, on otelgrpc, otelgrpc alone.
var known = []struct {
	name, reason string
	scenario     scenario
	look         string
	want         map[string][3]any
}{
	{
		name:   "D1",
		reason: "a stream that the server rejects while the client is sending is OK to otelgrpc",
		scenario: scenario{
			stub: func() *stub {
				return &stub{bidi: func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.PermissionDenied, "no") }}
			},
			call: func(h *harness) {
				cs, err := h.client.FullDuplexCall(h.ctx())
				for err == nil {
					err = cs.Send(&testpb.StreamingOutputCallRequest{})
				}
				if err := drain(cs); status.Code(err) != codes.PermissionDenied {
					h.t.Fatalf("the caller got %v, want PermissionDenied", err)
				}
			},
		},
		look: `(status|code|count)$`,
		want: map[string][3]any{
			"client span 0: status":                    {"Error", "Unset", "Unset"},
			"client span 0: rpc.response.status_code":  {"PERMISSION_DENIED", "OK", "OK"},
			"client point 0: rpc.response.status_code": {"PERMISSION_DENIED", "OK", "OK"},
			"client point 0: count":                    {uint64(1), uint64(1), uint64(1)},
			"server span 0: status":                    {"Unset", "Unset", "Unset"},
			"server span 0: rpc.response.status_code":  {"PERMISSION_DENIED", "PERMISSION_DENIED", "PERMISSION_DENIED"},
			"server point 0: rpc.response.status_code": {"PERMISSION_DENIED", "PERMISSION_DENIED", "PERMISSION_DENIED"},
			"server point 0: count":                    {uint64(1), uint64(1), uint64(1)},
		},
	},
	{
		name:   "D2",
		reason: "to otelgrpc each attempt is a trace and a call of its own",
		scenario: scenario{
			stub: func() *stub { return flaky(2, nil) },
			call: succeed(interceptors.Unary),
			dial: []grpc.DialOption{retrying},
		},
		look: `^client spans$|parent$|^client point \d: (count|rpc.response.status_code)$`,
		want: map[string][3]any{
			"client spans":                             {1, 3, 3},
			"client span 0: parent":                    {"none", "none", "none"},
			"client span 1: parent":                    {missing, "none", "none"},
			"client span 2: parent":                    {missing, "none", "none"},
			"server span 0: parent":                    {"client span 0", "client span 0", "client span 0"},
			"server span 1: parent":                    {"client span 0", "client span 1", "client span 1"},
			"server span 2: parent":                    {"client span 0", "client span 2", "client span 2"},
			"server span 0: remote parent":             {true, true, true},
			"server span 1: remote parent":             {true, true, true},
			"server span 2: remote parent":             {true, true, true},
			"client point 0: rpc.response.status_code": {"OK", "UNAVAILABLE", "UNAVAILABLE"},
			"client point 0: count":                    {uint64(1), uint64(2), uint64(2)},
			"client point 1: rpc.response.status_code": {missing, "OK", "OK"},
			"client point 1: count":                    {missing, uint64(1), uint64(1)},
		},
	},
	{
		name:   "D3",
		reason: "otelgrpc never ends the span of an unknown method, and records no point",
		scenario: scenario{
			stub: func() *stub { return &stub{} },
			call: func(h *harness) {
				err := h.conn.Invoke(h.ctx(), "/no.such.Service/Get", &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
				if status.Code(err) != codes.Unimplemented {
					h.t.Fatalf("the caller got %v, want Unimplemented", err)
				}
			},
		},
		look: `^server`,
		want: map[string][3]any{
			"server spans":                             {1, 0, 0},
			"server spans that never ended":            {missing, 1, 1},
			"server span 0: name":                      {"_OTHER", missing, missing},
			"server span 0: parent":                    {"client span 0", missing, missing},
			"server span 0: remote parent":             {true, missing, missing},
			"server span 0: status":                    {"Error", missing, missing},
			"server span 0: description":               {"unknown method", missing, missing},
			"server span 0: events":                    {"", missing, missing},
			"server span 0: links":                     {0, missing, missing},
			"server span 0: scope":                     {"github.com/rpcscope/rpcscope/interceptors", missing, missing},
			"server span 0: rpc.method":                {"_OTHER", missing, missing},
			"server span 0: rpc.method_original":       {"/no.such.Service/Get", missing, missing},
			"server span 0: rpc.system.name":           {"grpc", missing, missing},
			"server span 0: rpc.response.status_code":  {"UNIMPLEMENTED", missing, missing},
			"server span 0: error.type":                {"UNIMPLEMENTED", missing, missing},
			"server span 0: request.id":                {"an id", missing, missing},
			"server points":                            {1, 0, 0},
			"server duration: unit":                    {"s", missing, missing},
			"server duration: of what":                 {"Measures the duration of an incoming Remote Procedure Call (RPC).", missing, missing},
			"server duration: scope":                   {"github.com/rpcscope/rpcscope/interceptors", missing, missing},
			"server duration: temporality":             {"CumulativeTemporality", missing, missing},
			"server point 0: count":                    {uint64(1), missing, missing},
			"server point 0: exemplars":                {1, missing, missing},
			"server point 0: bounds":                   {"[0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10]", missing, missing},
			"server point 0: rpc.method":               {"_OTHER", missing, missing},
			"server point 0: rpc.system.name":          {"grpc", missing, missing},
			"server point 0: rpc.response.status_code": {"UNIMPLEMENTED", missing, missing},
			"server point 0: error.type":               {"UNIMPLEMENTED", missing, missing},
		},
	},
	{
		name:   "D4",
		reason: "behind a handler for unknown services every name that a peer makes up is a series of otelgrpc's",
		scenario: scenario{
			stub: func() *stub { return &stub{} },
			call: func(h *harness) {
				for i := range 300 {
					err := h.conn.Invoke(h.ctx(), fmt.Sprintf("/made.up.Service/M%d", i), &testpb.SimpleRequest{}, &testpb.SimpleResponse{})
					if status.Code(err) != codes.NotFound {
						h.t.Fatalf("the caller got %v, want NotFound", err)
					}
				}
			},
			server: []grpc.ServerOption{grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "no") })},
		},
		look: `^server (spans|points)$`,
		want: map[string][3]any{"server spans": {300, 300, 300}, "server points": {257, 300, 300}},
	},
	{
		name:   "D5",
		reason: "otelgrpc accepts WithMessageEvents and does nothing",
		scenario: scenario{
			stub:  func() *stub { return &stub{} },
			call:  succeed(interceptors.Unary),
			suite: []interceptors.Option{interceptors.WithMessageEvents()},
			peer:  []otelgrpc.Option{otelgrpc.WithMessageEvents(otelgrpc.ReceivedEvents, otelgrpc.SentEvents)},
		},
		look: `events$`,
		want: map[string][3]any{
			"client span 0: events": {"rpc.message rpc.message", "rpc.message rpc.message", ""},
			"server span 0: events": {"rpc.message rpc.message", "rpc.message rpc.message", ""},
		},
	},
	{
		name:   "D6: expired",
		reason: "a call that fails before its first attempt is nothing to otelgrpc",
		scenario: scenario{
			stub: func() *stub { return &stub{} },
			call: func(h *harness) {
				ctx, cancel := context.WithCancel(h.ctx())
				cancel()
				if got := status.Code(h.call(ctx, interceptors.Unary)); got != codes.Canceled {
					h.t.Fatalf("the caller got %v, want Canceled", got)
				}
			},
		},
		look: `^client (spans|points)$|code$`,
		want: map[string][3]any{
			"client spans": {1, 0, 0}, "client points": {1, 0, 0},
			"client span 0: rpc.response.status_code":  {"CANCELLED", missing, missing},
			"client point 0: rpc.response.status_code": {"CANCELLED", missing, missing},
		},
	},
	{
		name:   "D6: compressor",
		reason: "a call that fails before its first attempt is nothing to otelgrpc",
		scenario: scenario{
			stub: func() *stub { return &stub{} },
			call: func(h *harness) {
				_, err := h.client.UnaryCall(h.ctx(), &testpb.SimpleRequest{}, grpc.UseCompressor("none-such"))
				if status.Code(err) != codes.Internal {
					h.t.Fatalf("the caller got %v, want Internal", err)
				}
			},
		},
		look: `^client (spans|points)$|code$`,
		want: map[string][3]any{
			"client spans": {1, 0, 0}, "client points": {1, 0, 0},
			"client span 0: rpc.response.status_code":  {"INTERNAL", missing, missing},
			"client point 0: rpc.response.status_code": {"INTERNAL", missing, missing},
		},
	},
	{
		name:   "names",
		reason: "the semantic conventions want the server's name as the client was given it; otelgrpc has the address that it stands for",
		scenario: scenario{
			stub:   func() *stub { return &stub{} },
			call:   succeed(interceptors.Unary),
			target: "dns:///localhost:%d",
		},
		look: `^client .*server\.`,
		want: map[string][3]any{
			"client span 0: server.address":  {"localhost", "127.0.0.1", "127.0.0.1"},
			"client span 0: server.port":     {"the port", "the port", "the port"},
			"client point 0: server.address": {"localhost", "127.0.0.1", "127.0.0.1"},
			"client point 0: server.port":    {"the port", "the port", "the port"},
		},
	},
	{
		name:   "refused",
		reason: "without a connection otelgrpc does not say which server was meant",
		scenario: scenario{
			stub: func() *stub { return &stub{} },
			call: func(h *harness) {
				h.server.Stop()
				if got := status.Code(h.call(h.ctx(), interceptors.Unary)); got != codes.Unavailable {
					h.t.Fatalf("the caller got %v, want Unavailable", got)
				}
			},
		},
		look: `^client .*(server\.|code$)`,
		want: map[string][3]any{
			"client span 0: server.address":            {"127.0.0.1", missing, missing},
			"client span 0: server.port":               {"the port", missing, missing},
			"client span 0: rpc.response.status_code":  {"UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"},
			"client point 0: server.address":           {"127.0.0.1", missing, missing},
			"client point 0: server.port":              {"the port", missing, missing},
			"client point 0: rpc.response.status_code": {"UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"},
		},
	},
}

func succeed(kind interceptors.Kind) func(*harness) {
	return func(h *harness) {
		if err := h.call(h.ctx(), kind); err != nil {
			h.t.Fatal(err)
		}
	}
}

// What otelgrpc gets wrong the suite's own engine gets right; on top of otelgrpc
// the suite leaves it as it is.
func TestKnownDifferences(t *testing.T) {
	for _, test := range known {
		t.Run(test.name, func(t *testing.T) {
			look := regexp.MustCompile(test.look)
			got := map[string][3]any{}
			for who := range observers {
				for path, v := range test.scenario.observe(t, who) {
					if look.MatchString(path) {
						row, ok := got[path]
						if !ok {
							row = [3]any{missing, missing, missing}
						}
						row[who] = v
						got[path] = row
					}
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s; %v have (-want +got):\n%s", test.reason, observers, diff)
			}
		})
	}
}
