package telemetrytest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
)

// export sends one span over gRPC and returns the code.
func export(t *testing.T, conn *grpc.ClientConn, name string, opts ...grpc.CallOption) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := coltracepb.NewTraceServiceClient(conn).Export(ctx, &coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: name}}}},
	}}}, opts...)
	return status.Code(err)
}

// exportAgain sends until it is taken: the old connection may be broken.
func exportAgain(t *testing.T, conn *grpc.ClientConn, name string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for export(t, conn, name, grpc.WaitForReady(true)) != codes.OK {
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing is taken", name)
		}
	}
}

func dial(t *testing.T, c *Collector) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(c.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestCollectorModes(t *testing.T) {
	c := NewCollector(t, OK)
	conn := dial(t, c)
	if got := export(t, conn, "one"); got != codes.OK {
		t.Errorf("OK: code %s", got)
	}
	c.SetMode(Unavailable)
	if got := export(t, conn, "two"); got != codes.Unavailable {
		t.Errorf("Unavailable: code %s", got)
	}
	for _, silent := range []Mode{Stall, Blackhole} {
		c.SetMode(silent)
		if got := export(t, conn, "three"); got != codes.DeadlineExceeded {
			t.Errorf("%s: code %s", silent, got)
		}
		c.SetMode(OK)
		exportAgain(t, conn, "after "+silent.String())
	}
	c.SetMode(TracesOnly)
	if got := export(t, conn, "four"); got != codes.OK {
		t.Errorf("TracesOnly: traces get code %s", got)
	}
	if _, err := collogspb.NewLogsServiceClient(conn).Export(t.Context(), &collogspb.ExportLogsServiceRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("TracesOnly: logs get %v", err)
	}
	c.SetMode(Refuse)
	if _, err := net.Dial("tcp", c.Addr()); err == nil {
		t.Error("Refuse: a connection was accepted")
	}
	c.SetMode(OK)
	exportAgain(t, conn, "after Refuse")
	var names []string
	for _, s := range c.Spans() {
		names = append(names, s.GetName())
	}
	if got := strings.Join(names, ","); got != "one,after Stall,after Blackhole,four,after Refuse" {
		t.Errorf("received %s", got)
	}
}

func TestCollectorHTTP(t *testing.T) {
	c := NewCollector(t, OK)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(path, body string) (int, string) {
		t.Helper()
		res, err := client.Post(c.Endpoint()+path, "application/x-protobuf", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for _, tt := range []struct {
		mode       Mode
		path, body string
		want       int
	}{
		{OK, "/v1/traces", "", 200},
		{OK, "/v1/traces", "garbage", 400},
		{OK, "/elsewhere", "", 400},
		{Unavailable, "/v1/logs", "", 503},
		{TracesOnly, "/v1/traces", "", 200},
		{TracesOnly, "/v1/metrics", "", 404},
	} {
		c.SetMode(tt.mode)
		if got, text := post(tt.path, tt.body); got != tt.want {
			t.Errorf("%s %s %q: status %d %s, want %d", tt.mode, tt.path, tt.body, got, text, tt.want)
		}
	}
	if got := c.Requests(); got != 2 {
		t.Errorf("%d requests were taken, want 2", got)
	}
}

// A wait that was in vain fails the test and lists what came instead.
func TestCollectorWaitsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that it takes no time
		failures := failuresOf(t, func(tb testing.TB) {
			c := NewCollector(tb, Refuse)
			body, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
				ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: "one"}}}},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/traces", bytes.NewReader(body)))
			if got := c.WaitForSpan("one"); got.GetName() != "one" {
				t.Errorf("got %v", got)
			}
			c.WaitForMetric("absent")
			tb.Errorf("went on")
		})
		if want := []string{"the collector waited 10s for metric absent; it received:\n\tspan one of \n"}; !slices.Equal(failures, want) {
			t.Errorf("failures are %q, want %q", failures, want)
		}
	})
}

func TestModeString(t *testing.T) {
	if got := TracesOnly.String() + " " + Mode(9).String() + " " + Mode(-1).String(); got != "TracesOnly Mode(9) Mode(-1)" {
		t.Error(got)
	}
}
