package fault

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/errors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asking returns the context of a call that asks for faults.
func asking(t *testing.T, wanted ...string) context.Context {
	return metadata.NewIncomingContext(t.Context(), metadata.MD{Key: wanted})
}

// One caller sets a fault, for a minute or until it is ended, and the others have it.
func TestSwitchIsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Switch
		inject := func(wanted ...string) codes.Code {
			t.Helper()
			return errors.Code(s.Inject(asking(t, wanted...)))
		}
		want := func(what string, got, want codes.Code) {
			t.Helper()
			if got != want {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		want("at first", inject(), codes.OK)
		want("the call that sets", inject("all:code=UNAVAILABLE"), codes.OK)
		want("another", inject(), codes.Unavailable)
		want("one with a fault of its own", inject("code=NOT_FOUND"), codes.NotFound)
		<-time.After(forAll - time.Nanosecond)
		want("within the minute", inject(), codes.Unavailable)
		<-time.After(time.Nanosecond)
		want("after the minute", inject(), codes.OK)

		want("set again", inject("all:code=ABORTED"), codes.OK)
		want("another", inject(), codes.Aborted)
		const noFault = `x-fault: all:audit:fire: "fire", want panic, error, code=CODE or delay=DURATION, or none`
		if err := s.Inject(asking(t, "all:audit:fire")); errors.Code(err) != codes.InvalidArgument || errors.Message(err) != noFault {
			t.Errorf("got %v, want INVALID_ARGUMENT and %q", err, noFault)
		}
		want("which changes nothing", inject(), codes.Aborted)
		want("the call that ends it", inject("all:none"), codes.OK)
		want("afterwards", inject(), codes.OK)
	})
}

// What is another service's is handed on to that one alone.
func TestSwitchHandsOn(t *testing.T) {
	var s Switch
	handed := func(service string, wanted ...string) []string {
		t.Helper()
		ctx := asking(t, wanted...)
		if err := s.Inject(ctx); err != nil {
			t.Error(err)
		}
		md, _ := metadata.FromOutgoingContext(s.Onward(ctx, service))
		return md.Get(Key)
	}
	for _, tt := range []struct {
		name, service string
		asked         []string
		want          []string
	}{
		{"nothing", "audit", nil, nil},
		{"of one call", "audit", []string{"audit:error", "mail:panic", "delay=0s"}, []string{"error"}},
		{"of everybody, the call that says so", "audit", []string{"all:audit:delay=1ms@0.5"}, nil},
		{"of everybody", "audit", nil, []string{"delay=1ms@0.5"}},
		{"and a call's own", "audit", []string{"audit:error"}, []string{"error", "delay=1ms@0.5"}},
		{"to another service", "mail", nil, nil},
		{"ended", "audit", []string{"all:none"}, nil},
	} {
		if diff := cmp.Diff(tt.want, handed(tt.service, tt.asked...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	var none *Switch
	if md, ok := metadata.FromOutgoingContext(none.Onward(asking(t, "audit:error"), "audit")); ok {
		t.Errorf("a service that obeys nothing hands %v on", md)
	}
}
