package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// job is what a contender is here for, on either side of a call.
type job struct {
	server, client work
	recovers       codes.Code // what a panic becomes; OK if it ends the process
}

type work struct {
	Spans         []trace.SpanKind // in the order in which they end
	Metrics       map[string]int64 // a histogram's count, a sum's value
	Records       []record
	Authenticated int64
	Limited       int64
	Intercepted   int64
}

// record is what matters of a record of the log.
type record struct {
	Message, Code      string
	RequestID, TraceID bool // is there
}

// jobs are those of a call whose client gets so many messages.
func jobs(messages int64) map[string]job {
	server, client := []trace.SpanKind{trace.SpanKindServer}, []trace.SpanKind{trace.SpanKindClient}
	ours := func(interceptors int64) job {
		return job{
			server: work{
				Spans:       server,
				Metrics:     map[string]int64{"rpc.server.call.duration": 1, "rpcscope.server.active_calls": 0},
				Records:     []record{{"server call", "OK", true, true}},
				Intercepted: interceptors,
			},
			client: work{
				Spans:       client,
				Metrics:     map[string]int64{"rpc.client.call.duration": 1, "rpcscope.client.active_calls": 0},
				Records:     []record{{"client call", "OK", true, true}},
				Intercepted: interceptors,
			},
			recovers: codes.Internal,
		}
	}
	return map[string]job{
		bareName: {},
		otelgrpcName: {
			server: work{Spans: server, Metrics: map[string]int64{"rpc.server.call.duration": 1}},
			client: work{Spans: client, Metrics: map[string]int64{"rpc.client.call.duration": 1}},
		},
		grpcOwnName: {
			server: work{
				Spans: server,
				Metrics: map[string]int64{
					"grpc.server.call.started":                            1,
					"grpc.server.call.duration":                           1,
					"grpc.server.call.rcvd_total_compressed_message_size": 1,
					"grpc.server.call.sent_total_compressed_message_size": 1,
				},
			},
			client: work{
				Spans: []trace.SpanKind{trace.SpanKindInternal, trace.SpanKindClient}, // of the attempt, of the call
				Metrics: map[string]int64{
					"grpc.client.call.duration":                              1,
					"grpc.client.attempt.started":                            1,
					"grpc.client.attempt.duration":                           1,
					"grpc.client.attempt.rcvd_total_compressed_message_size": 1,
					"grpc.client.attempt.sent_total_compressed_message_size": 1,
				},
			},
		},
		assembledName: {
			server: work{
				Spans: server,
				Metrics: map[string]int64{
					"rpc.server.call.duration":       1,
					"grpc_server_started_total":      1,
					"grpc_server_handled_total":      1,
					"grpc_server_handling_seconds":   1,
					"grpc_server_msg_received_total": 1,
					"grpc_server_msg_sent_total":     messages,
				},
				Records:       []record{{"finished call", "OK", true, true}},
				Authenticated: 1,
				Limited:       1,
			},
			client: work{
				Spans: client,
				Metrics: map[string]int64{
					"rpc.client.call.duration":       1,
					"grpc_client_started_total":      1,
					"grpc_client_handled_total":      1,
					"grpc_client_handling_seconds":   1,
					"grpc_client_msg_received_total": messages,
					"grpc_client_msg_sent_total":     1,
				},
				Records: []record{{"finished call", "OK", true, false}}, // a stats handler's span is hidden from interceptors
				Limited: 1,
			},
			recovers: codes.Unknown,
		},
		oursName:       ours(0),
		onOTelGRPCName: ours(0),
		chainedName:    ours(4),
	}
}

// TestContendersDoTheirJob holds each contender to its job: who records less is
// cheaper.
func TestContendersDoTheirJob(t *testing.T) {
	for _, s := range []scenario{
		{name: "unary", call: unary, ratio: 1},
		{name: "unary-never", call: unary, ratio: 0},
		{name: "server-stream", call: serverStream, ratio: 1},
		{name: "server-stream-never", call: serverStream, ratio: 0},
	} {
		received := int64(1)
		if s.call.title == serverStream.title {
			received = messages
		}
		for _, c := range contenders {
			t.Run(s.name+"/"+c.name, func(t *testing.T) {
				server, client := newWatched(s.ratio), newWatched(s.ratio)
				rig, err := newRigWith(s, c, server.recorder, client.recorder) // makes a call
				if err != nil {
					t.Fatal(err)
				}
				if err := rig.close(); err != nil {
					t.Fatal(err)
				}
				want := jobs(received)[c.name]
				if s.ratio == 0 {
					want.server.Spans, want.client.Spans = nil, nil
				}
				gotServer, serverID := server.work(t)
				gotClient, clientID := client.work(t)
				if diff := cmp.Diff(want.server, gotServer, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("server (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want.client, gotClient, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("client (-want +got):\n%s", diff)
				}
				if serverID != clientID {
					t.Errorf("request id %q on the server, %q on the client", serverID, clientID)
				}
			})
		}
	}
}

func TestContendersRecover(t *testing.T) {
	for _, c := range contenders {
		want := jobs(1)[c.name].recovers
		if want == codes.OK {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			rig, err := newRig(scenario{call: unary, ratio: 1}, c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = rig.client.UnaryCall(t.Context(), &testpb.SimpleRequest{FillUsername: true})
			if got := status.Code(err); got != want {
				t.Errorf("a panic came out as %v, want %v", err, want)
			}
			if err := rig.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// watched is a recorder whose spans and log are kept.
type watched struct {
	*recorder
	spans *tracetest.SpanRecorder
	log   *bytes.Buffer
}

func newWatched(ratio float64) watched {
	spans, log := tracetest.NewSpanRecorder(), new(bytes.Buffer)
	return watched{newRecorder(ratio, slog.LevelDebug, log, spans), spans, log}
}

// work returns what was done, and the request id that was logged last.
func (w watched) work(t *testing.T) (done work, requestID string) {
	t.Helper()
	done = work{
		Metrics:       w.metrics(t),
		Authenticated: w.authenticated.Load(),
		Limited:       w.limited.Load(),
		Intercepted:   w.intercepted.Load(),
	}
	for _, span := range w.spans.Ended() {
		done.Spans = append(done.Spans, span.SpanKind())
	}
	for line := range bytes.Lines(w.log.Bytes()) {
		var r struct {
			Message       string `json:"msg"`
			Code          string `json:"rpc.response.status_code"`
			AssembledCode string `json:"grpc.code"`
			RequestID     string `json:"request_id"`
			TraceID       string `json:"trace_id"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		done.Records = append(done.Records, record{r.Message, r.Code + r.AssembledCode, r.RequestID != "", r.TraceID != ""})
		requestID = r.RequestID
	}
	return done, requestID
}

// metrics returns OpenTelemetry's and Prometheus', by name.
func (w watched) metrics(t *testing.T) map[string]int64 {
	t.Helper()
	var collected metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]int64)
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					sums[m.Name] += int64(p.Count)
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					sums[m.Name] += int64(p.Count)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					sums[m.Name] += p.Value
				}
			default:
				t.Errorf("%s is %T", m.Name, data)
			}
		}
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sums[family.GetName()] += int64(m.GetCounter().GetValue()) + int64(m.GetHistogram().GetSampleCount())
		}
	}
	return sums
}
