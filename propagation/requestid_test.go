package propagation_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/rpcscope/rpcscope/propagation"
)

func TestRule19ValidRequestID(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		want     bool
	}{
		{"empty", "", false},
		{"one character", "a", true},
		{"128 bytes", strings.Repeat("a", 128), true},
		{"129 bytes", strings.Repeat("a", 129), false},
		{"all characters", "09azAZ._~:/+=-", true},
		{"Envoy", "5b7e1f0a-6f0e-9d5e-8b5c-0b4ed0b0a7b1", true},
		{"AWS", "Root=1-67891233-abcdef012345678912345678", true},
		{"base64", "dGhpcyBpcyBpdA==", true},
		{"URL", "https://gw.example.com/r/1~2", true},
		{"first is punctuation", "-a", false},
		{"first is a dot", ".a", false},
		{"space", "a b", false},
		{"two in one", "a,b", false},
		{"newline", "a\nb", false},
		{"percent", "a%0Ab", false},
		{"quote", `a"b`, false},
		{"markup", "<a>", false},
		{"NUL", "a\x00", false},
		{"UTF-8", "é", false},
		{"UTF-8 later", "aé", false},
		{"invalid UTF-8", "a\xff", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := propagation.ValidRequestID(tt.id); got != tt.want {
				t.Errorf("ValidRequestID(%q) = %v, want %v", tt.id, got, tt.want)
			}
		})
	}
}

func TestRule19NewRequestIDIsUUIDv7(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Until(time.UnixMilli(0x018f3c1e7b2a).Add(999_999 * time.Nanosecond))) // on the fake clock
		id := propagation.NewRequestID()
		if !form.MatchString(id) || !propagation.ValidRequestID(id) {
			t.Errorf("NewRequestID() = %q, want a UUIDv7", id)
		}
		if want := "018f3c1e-7b2a-7fff-"; !strings.HasPrefix(id, want) {
			t.Errorf("NewRequestID() = %q, want the time first: %q", id, want)
		}
		var ids []string
		for range 1000 {
			ids = append(ids, propagation.NewRequestID())
			<-time.After(250 * time.Nanosecond) // on the fake clock
		}
		if !slices.IsSorted(ids) {
			t.Error("ids made 250 ns apart do not sort in the order they were made")
		}
	})
}

func TestRule19NewRequestIDConcurrentSafe(t *testing.T) {
	const goroutines, each = 8, 2000
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = make(map[string]bool, goroutines*each)
	)
	for range goroutines {
		wg.Go(func() {
			ids := make([]string, each)
			for i := range ids {
				ids[i] = propagation.NewRequestID()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				seen[id] = true
			}
		})
	}
	wg.Wait()
	if got := len(seen); got != goroutines*each {
		t.Errorf("%d different ids, want %d", got, goroutines*each)
	}
}

func TestRequestIDInContext(t *testing.T) {
	ctx := context.Background()
	if got := propagation.RequestID(ctx); got != "" {
		t.Errorf("RequestID(empty) = %q, want none", got)
	}
	if got := propagation.RequestID(nil); got != "" { //nolint:staticcheck // nil is promised to be harmless
		t.Errorf("RequestID(nil) = %q, want none", got)
	}
	outer := propagation.ContextWithRequestID(ctx, "outer")
	inner := propagation.ContextWithRequestID(outer, "inner")
	for _, invalid := range []string{"", "a b", strings.Repeat("x", 129)} {
		if got := propagation.ContextWithRequestID(inner, invalid); got != inner {
			t.Errorf("ContextWithRequestID(ctx, %q) is another context, want ctx", invalid)
		}
	}
	if got := propagation.RequestID(outer); got != "outer" {
		t.Errorf("RequestID(outer) = %q", got)
	}
	if got := propagation.RequestID(inner); got != "inner" {
		t.Errorf("RequestID(inner) = %q", got)
	}
}

func TestContextStaysAContext(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithTimeout(context.WithValue(context.Background(), key{}, "v"), time.Hour)
	ctx := propagation.ContextWithRequestID(parent, "r")
	child, stop := context.WithCancel(ctx)
	defer stop()
	if got := child.Value(key{}); got != "v" {
		t.Errorf("Value = %v, want that of the parent", got)
	}
	if got := propagation.RequestID(child); got != "r" {
		t.Errorf("RequestID(child) = %q", got)
	}
	if _, ok := ctx.Deadline(); !ok {
		t.Error("the deadline of the parent is lost")
	}
	cancel()
	<-child.Done()
	if got := context.Cause(child); !errors.Is(got, context.Canceled) {
		t.Errorf("Cause = %v, want %v", got, context.Canceled)
	}
}

func TestRule19Extract(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ids   []string
		inCtx string
		want  string
	}{
		{"none", nil, "", ""},
		{"none, one in the context", nil, "ctx", "ctx"},
		{"valid", []string{"a"}, "", "a"},
		{"valid, another in the context", []string{"a"}, "ctx", "a"},
		{"empty", []string{""}, "", ""},
		{"invalid", []string{"a b"}, "", ""},
		{"invalid, one in the context", []string{"a b"}, "ctx", "ctx"},
		{"too long", []string{strings.Repeat("a", 129)}, "", ""},
		{"the same twice", []string{"a", "a"}, "", "a"},
		{"conflicting", []string{"a", "b"}, "", ""},
		{"conflicting, the second invalid", []string{"a", ""}, "", ""},
		{"conflicting in one line", []string{"a, b"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := propagation.ContextWithRequestID(context.Background(), tt.inCtx)
			for _, c := range []otelprop.TextMapCarrier{
				mdCarrier{"x-request-id": tt.ids},
				otelprop.HeaderCarrier(http.Header{"X-Request-Id": tt.ids}),
			} {
				if got := propagation.RequestID(propagation.New().Extract(ctx, c)); got != tt.want {
					t.Errorf("%T: request id %q, want %q", c, got, tt.want)
				}
			}
		})
	}
}

// A carrier that shows one value only is read too.
func TestRule19ExtractFromMapCarrier(t *testing.T) {
	ctx := propagation.New().Extract(context.Background(), otelprop.MapCarrier{"x-request-id": "a"})
	if got := propagation.RequestID(ctx); got != "a" {
		t.Errorf("request id %q, want a", got)
	}
}

func TestRule19TrustedRequestIDOnly(t *testing.T) {
	for _, tt := range []struct {
		name  string
		trust propagation.TrustFunc
		want  string
	}{
		{"none", nil, ""},
		{"TrustNone", propagation.TrustNone, ""},
		{"TrustAll", propagation.TrustAll, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := propagation.New(propagation.WithTrustedRequestIDOnly(), propagation.WithTrust(tt.trust))
			ctx := p.Extract(context.Background(), mdCarrier{"x-request-id": {"a"}})
			if got := propagation.RequestID(ctx); got != tt.want {
				t.Errorf("request id %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRule19ClientPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   []string // by the application
		inCtx string
		want  []string // nil: any new one
	}{
		{"application's before context's", []string{"app"}, "ctx", []string{"app"}},
		{"context's", nil, "ctx", []string{"ctx"}},
		{"context's for an invalid one", []string{"a b"}, "ctx", []string{"ctx"}},
		{"context's for an empty one", []string{""}, "ctx", []string{"ctx"}},
		{"context's for conflicting ones", []string{"a", "b"}, "ctx", []string{"ctx"}},
		{"sent once", []string{"app", "app"}, "ctx", []string{"app"}},
		{"a new one for an invalid one", []string{"a b"}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mdCarrier{"x-request-id": tt.set}
			ctx := propagation.ContextWithRequestID(context.Background(), tt.inCtx)
			propagation.New().Inject(ctx, c)
			got := c["x-request-id"]
			if tt.want == nil {
				if len(got) != 1 || !propagation.ValidRequestID(got[0]) {
					t.Errorf("sent %q, want one new id", got)
				}
				return
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		c := mdCarrier{}
		propagation.New().Inject(context.Background(), c)
		if len(c) != 0 {
			t.Errorf("sent %v, want nothing", c)
		}
	})
}
