package web_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/web"
	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// exporting returns the telemetry of a service that sends it to c, and to nothing else.
func exporting(t *testing.T, c *telemetrytest.Collector, name string) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Setup(t.Context(), telemetry.WithServiceName(name), telemetry.WithEndpoint(c.Endpoint()), telemetry.WithoutGlobals(),
		telemetry.WithLookupEnv(func(string) (string, bool) { return "", false }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Close(); err != nil {
			t.Error(err)
		}
	})
	return tel
}

// A request of the page through the web app and the users service into SQLite is one trace with the right parents, and
// has one request id in every span and log record of both services: so it arrives at an OTLP endpoint.
func TestOneTraceFromPageToDatabase(t *testing.T) {
	collector := telemetrytest.NewCollector(t, telemetrytest.OK)
	api, app := exporting(t, collector, "users-api"), exporting(t, collector, "users-web")
	s := start(t, observe.Through(api, nil), observe.Through(app, nil), web.Config{})

	const post = `users-web SERVER POST /users/
  users-web CLIENT users.v1.UserService/CreateUser
    users-api SERVER users.v1.UserService/CreateUser
      users-api CLIENT BEGIN
      users-api CLIENT SELECT users
      users-api CLIENT INSERT users
      users-api CLIENT COMMIT
`
	const get = `users-web SERVER GET /users/
  users-web CLIENT users.v1.UserService/ListUsers
    users-api SERVER users.v1.UserService/ListUsers
      users-api CLIENT SELECT users
`
	tests := []struct {
		name, method, body string
		requestID          string // that the page sends; empty: the web app makes one
		wantStatus         int
		want               string
	}{
		{"create", "POST", `{"name":"Ada","email":"ada@example.com"}`, "", 201, post},
		{"create, with an id", "POST", `{"name":"Bob","email":"bob@example.com"}`, "page-1", 201, post},
		{"list", "GET", "", "", 200, get},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.requestID != "" {
				header = []string{"X-Request-Id", test.requestID}
			}
			response := s.do(test.method, "/users/", test.body, header...)
			_ = lines(t, response)
			requestID, traceID := response.Header.Get("X-Request-Id"), response.Header.Get("X-Trace-Id")
			if response.StatusCode != test.wantStatus || requestID == "" || traceID == "" || (test.requestID != "" && requestID != test.requestID) {
				t.Fatalf("%s, request id %q, trace id %q, want %d and ids", response.Status, requestID, traceID, test.wantStatus)
			}
			if timing := response.Header.Get("Server-Timing"); !strings.HasPrefix(timing, `traceparent;desc="00-`+traceID+"-") {
				t.Errorf("Server-Timing = %q, want the traceparent with %s", timing, traceID)
			}

			var spans []telemetrytest.OTLPSpan
			var logs []telemetrytest.OTLPLog
			collector.WaitFor("the trace and its 3 log records", func() bool {
				if err := cmp.Or(api.ForceFlush(t.Context()), app.ForceFlush(t.Context())); err != nil {
					t.Fatal(err)
				}
				spans = slices.DeleteFunc(collector.Spans(), func(s telemetrytest.OTLPSpan) bool { return hex.EncodeToString(s.GetTraceId()) != traceID })
				logs = slices.DeleteFunc(collector.Logs(), func(l telemetrytest.OTLPLog) bool { return hex.EncodeToString(l.GetTraceId()) != traceID })
				return len(spans) >= strings.Count(test.want, "\n") && len(logs) >= 2
			})
			if diff := gocmp.Diff(test.want, tree(spans)); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
			for _, span := range spans {
				if id := telemetrytest.Attr(span.GetAttributes(), "request.id"); id != requestID && telemetrytest.Attr(span.GetAttributes(), "db.system.name") == "" {
					t.Errorf("span %s of %s has request id %q, want %q", span.GetName(), span.Service(), id, requestID)
				}
			}
			var got []string
			for _, record := range logs {
				got = append(got, fmt.Sprint(record.Service(), ": ", record.GetBody().GetStringValue(), ", request ", telemetrytest.Attr(record.GetAttributes(), "request_id")))
			}
			slices.Sort(got)
			want := []string{"users-api: server call, request " + requestID, "users-web: http request, request " + requestID}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("log records (-want +got):\n%s", diff)
			}
		})
	}
}

// tree returns a line for each span, two spaces deeper than its parent, in the order they began.
func tree(spans []telemetrytest.OTLPSpan) string {
	slices.SortFunc(spans, func(a, b telemetrytest.OTLPSpan) int {
		return cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano())
	})
	var b strings.Builder
	var walk func(parent, indent string)
	walk = func(parent, indent string) {
		for _, s := range spans {
			if string(s.GetParentSpanId()) == parent {
				kind := strings.TrimPrefix(tracepb.Span_SpanKind_name[int32(s.GetKind())], "SPAN_KIND_")
				fmt.Fprintf(&b, "%s%s %s %s\n", indent, s.Service(), kind, s.GetName())
				walk(string(s.GetSpanId()), indent+"  ")
			}
		}
	}
	walk("", "")
	return b.String()
}
