package service_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/examples/internal/audit"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/examples/internal/servetest"
	"github.com/rpcscope/rpcscope/examples/internal/service"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

// audited is a users service in front of an audit service, both and the client recorded together.
func audited(t *testing.T, cfg service.Config) (usersv1.UserServiceClient, *telemetrytest.Recorder) {
	t.Helper()
	r := telemetrytest.New(t)
	by := observe.Through(r.Telemetry(), nil)
	cfg.Observe, cfg.Faults = by, true
	cfg.Audit, _ = servetest.Start(t, func(ctx context.Context, l net.Listener) error {
		return audit.Serve(ctx, l, audit.Config{Faults: fault.FromMetadata, Observe: by})
	})
	address, _ := servetest.Start(t, func(ctx context.Context, l net.Listener) error { return service.Serve(ctx, l, cfg) })
	conn, err := grpc.NewClient(address, append(interceptors.DialOptions(by.Client()...), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return usersv1.NewUserServiceClient(conn), r
}

// events returns actions and actors of what was done to a user.
func events(t *testing.T, client usersv1.UserServiceClient, id string) ([]string, error) {
	t.Helper()
	stream, err := client.ListEvents(timeout(t), &usersv1.ListEventsRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		e, err := stream.Recv()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if since := time.Since(e.GetTime().AsTime()); since < 0 || since > time.Minute {
			t.Errorf("event %v was %v ago", e, since)
		}
		got = append(got, e.GetAction()+" by "+e.GetActor())
	}
}

// One trace from the caller through both services into both databases, with one request id.
func TestAudit(t *testing.T) {
	client, r := audited(t, service.Config{Open: true})
	ctx := propagation.ContextWithRequestID(timeout(t), "req-1")
	reply, err := client.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")})
	if err != nil {
		t.Fatal(err)
	}
	caller := r.Spans().Named("users.v1.UserService/CreateUser").Kind(trace.SpanKindClient).One().Root()
	handler := r.Spans().Named("users.v1.UserService/CreateUser").Kind(trace.SpanKindServer).One().ChildOf(caller)
	call := r.Spans().Named("audit.v1.AuditService/Record").Kind(trace.SpanKindClient).One().ChildOf(handler)
	record := r.Spans().Named("audit.v1.AuditService/Record").Kind(trace.SpanKindServer).One().ChildOf(call)
	r.Spans().Named("INSERT events").One().ChildOf(record)
	r.Spans().Named("INSERT users").One().ChildOf(handler)
	for _, s := range []telemetrytest.Span{caller, handler, call, record} {
		s.Has(attribute.String("request.id", "req-1"))
	}
	id := reply.GetUser().GetId()
	if _, err := client.DeleteUser(timeout(t), &usersv1.DeleteUserRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	got, err := events(t, client, id)
	if diff := cmp.Diff([]string{"user.create by anonymous", "user.delete by anonymous"}, got); diff != "" || err != nil {
		t.Errorf("events (-want +got), error %v:\n%s", err, diff)
	}
	// What the audit service says of the subject, and only that, is said to our caller as it is.
	if _, err := events(t, client, "u-0"); !errors.Is(err, audit.ErrNoEvents) || errors.Message(err) != "nothing is known of u-0" {
		t.Errorf("events of nobody: %v, want %v", err, audit.ErrNoEvents)
	}
}

// Rule 17: what fails behind the users service is no fault of its caller, who learns nothing of it; and what could not be
// recorded was not done.
func TestAuditFails(t *testing.T) {
	client, _ := audited(t, service.Config{Open: true, AuditTimeout: 50 * time.Millisecond})
	for _, tt := range []struct {
		fault string
		want  codes.Code
	}{
		{"audit:error", codes.Internal},
		{"audit:panic", codes.Internal},
		{"audit:code=INVALID_ARGUMENT", codes.Internal},
		{"audit:code=NOT_FOUND", codes.Internal},
		{"audit:code=UNAVAILABLE", codes.Unavailable},
		{"audit:code=RESOURCE_EXHAUSTED", codes.Unavailable},
		{"audit:delay=1h", codes.DeadlineExceeded},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(timeout(t), fault.Key, tt.fault)
			_, err := client.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser("Ada")})
			if code := errors.Code(err); code != tt.want {
				t.Errorf("code = %v, want %v: %v", code, tt.want, err)
			}
			if domain, reason := errors.Reason(err); domain+reason != "" || errors.Message(err) == "a fault was asked for" {
				t.Errorf("the caller learns %s %s: %v", domain, reason, err)
			}
		})
	}
	if all, err := get(t, client); err != nil || len(all) != 0 {
		t.Errorf("%d users, error %v, want none", len(all), err)
	}
}

// What fails for a moment is tried again; what fails for long is left alone, and the caller learns when to come back.
func TestAuditIsResilient(t *testing.T) {
	client, r := audited(t, service.Config{Open: true, Resilient: true})
	away := metadata.AppendToOutgoingContext(timeout(t), fault.Key, "audit:code=UNAVAILABLE")
	for {
		_, err := client.CreateUser(away, &usersv1.CreateUserRequest{User: newUser("Ada")})
		if errors.Code(err) != codes.Unavailable {
			t.Fatalf("error = %v, want %v", err, codes.Unavailable)
		}
		if _, told := errors.RetryAfter(err); told {
			break
		}
	}
	served := r.Metric("rpc.server.call.duration").HistogramCount(attribute.String("rpc.method", "audit.v1.AuditService/Record"))
	if retries := r.Metric("rpcscope.client.attempts").Counter(attribute.String("rpcscope.attempt", "retry")); served != 10 || retries == 0 {
		t.Errorf("the audit service was called %d times, %d of them retries, want 10 until the breaker opened, and retries", served, retries)
	}
}

// Nobody listens at the address of the audit service: the users service starts, reads, and changes nothing.
func TestAuditIsAway(t *testing.T) {
	client, _, _ := serve(t, service.Config{Open: true, Audit: "localhost:1"})
	if _, err := client.CreateUser(timeout(t), &usersv1.CreateUserRequest{User: newUser("Ada")}); errors.Code(err) != codes.Unavailable {
		t.Errorf("error = %v, want %v", err, codes.Unavailable)
	}
	if all, err := get(t, client); err != nil || len(all) != 0 {
		t.Errorf("%d users, error %v, want none", len(all), err)
	}
}

// A fault that one caller wants everybody to have, the others have too, in the service and in the one behind it.
func TestFaultsForAll(t *testing.T) {
	client, _ := audited(t, service.Config{Open: true})
	create := func(name string, faults ...string) codes.Code {
		t.Helper()
		ctx := timeout(t)
		for _, wanted := range faults {
			ctx = metadata.AppendToOutgoingContext(ctx, fault.Key, wanted)
		}
		_, err := client.CreateUser(ctx, &usersv1.CreateUserRequest{User: newUser(name)})
		return errors.Code(err)
	}
	for i, tt := range []struct {
		fault string
		want  codes.Code
	}{
		{"all:code=ABORTED", codes.Aborted},
		{"all:audit:code=UNAVAILABLE", codes.Unavailable},
		{"all:none", codes.OK},
	} {
		if got := create(fmt.Sprint("Ada", i), tt.fault); got != codes.OK {
			t.Errorf("the call that asks for %s: got %v, want OK", tt.fault, got)
		}
		if got := create(fmt.Sprint("Bob", i)); got != tt.want {
			t.Errorf("another after %s: got %v, want %v", tt.fault, got, tt.want)
		}
	}
}
