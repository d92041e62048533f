package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rpcscope/rpcscope/errors"
	auditv1 "github.com/rpcscope/rpcscope/examples/gen/audit/v1"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/database"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns the address of an audit service and what observes it.
func start(t *testing.T) (string, observe.By) {
	t.Helper()
	by := observe.Through(telemetrytest.New(t).Telemetry(), slog.New(slog.DiscardHandler))
	address, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error {
		return audit.Serve(ctx, l, audit.Config{Observe: by})
	})
	return address, by
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestClient(t *testing.T) {
	address, by := start(t)
	if err := audit.Check(timeout(t), address); err != nil {
		t.Fatal(err)
	}
	client, err := audit.Dial(address, 0, nil, by)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := propagation.ContextWithRequestID(timeout(t), "req-1")
	known := propagation.ContextWithIdentity(ctx, propagation.Identity{UserID: "u-1"})
	for _, err := range []error{client.Record(ctx, "user.create", "u-2"), client.Record(known, "user.delete", "u-2"), client.Record(known, "user.delete", "u-3")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for e, err := range client.Events(ctx, "u-2") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s by %s in %s", e.GetAction(), e.GetSubject(), e.GetActor(), e.GetRequestId()))
	}
	want := []string{"user.create u-2 by anonymous in req-1", "user.delete u-2 by u-1 in req-1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, c := range []*audit.Client{client, nil} {
		n := 0
		for _, err := range c.Events(ctx, "u-0") {
			if n++; !errors.Is(err, audit.ErrNoEvents) {
				t.Errorf("events of nobody: %v, want %v", err, audit.ErrNoEvents)
			}
		}
		if n != 1 {
			t.Errorf("got %d answers, want the error alone", n)
		}
	}
	var none *audit.Client
	if err := errors.Join(none.Record(ctx, "user.create", "u-1"), none.Close()); err != nil {
		t.Errorf("a nil client: %v", err)
	}
}

func TestRecordRefuses(t *testing.T) {
	address, _ := start(t)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := auditv1.NewAuditServiceClient(conn)
	for _, tt := range []struct {
		name string
		req  *auditv1.RecordRequest
		want []string
	}{
		{"nothing", &auditv1.RecordRequest{}, []string{"actor", "action", "subject"}},
		{"too much", &auditv1.RecordRequest{Actor: "a", Action: strings.Repeat("ä", 65), Subject: strings.Repeat("ä", 257)}, []string{"action", "subject"}},
		{"as much as may be", &auditv1.RecordRequest{Actor: "a", Action: strings.Repeat("ä", 64), Subject: strings.Repeat("ä", 256)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.Record(timeout(t), tt.req)
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, reason := errors.Reason(err); reason != "EVENT_INVALID" {
				t.Errorf("error = %v, want reason EVENT_INVALID", err)
			}
			bad, _ := errors.Detail[*errdetails.BadRequest](err)
			var got []string
			for _, v := range bad.GetFieldViolations() {
				got = append(got, v.GetField())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// More events than are read at once, kept in a file.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	s, err := audit.Open(t.Context(), database.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for i := range 250 {
		id, err := s.Add(t.Context(), audit.Event{Actor: "a", Action: fmt.Sprint(i), Subject: "s", RequestID: "r"})
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = audit.Open(t.Context(), database.Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for e, err := range s.Of(t.Context(), "s") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Action != fmt.Sprint(n) || !ids[e.ID] {
			t.Fatalf("got event %+v, want number %d", e, n)
		}
		n++
	}
	if n != 250 || len(ids) != 250 {
		t.Errorf("got %d events with %d ids, want 250", n, len(ids))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Of(cancelled, "s") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v, want %v", err, context.Canceled)
		}
	}
	if _, err := s.Add(cancelled, audit.Event{}); !errors.Is(err, context.Canceled) {
		t.Errorf("add, cancelled: %v, want %v", err, context.Canceled)
	}
}
