package load

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
)

// A run counts as well while calls end as its scenario wants, and not for long after the last that did.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &options{scenario: Scenario{Name: "steady"}, plan: Plan{Duration: time.Hour}}
		tally := NewTally()
		handler := o.statusOf(tally)
		check := func(when string, code int, body string) {
			t.Helper()
			w := httptest.NewRecorder()
			handler(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != code || !regexp.MustCompile(body).MatchString(w.Body.String()) {
				t.Errorf("%s: got %d %q, want %d and a line like %q", when, w.Code, w.Body, code, body)
			}
		}
		end := func(o Outcome) {
			tally.started(0)
			tally.ended(o, time.Millisecond)
		}
		check("before the run", 503, `^steady 0s/1h0m0s  0/s`)
		tally.begin(time.Now())
		end(Outcome{Operation: "get", Err: errors.Coded(codes.Unavailable, "away")})
		check("nothing ended well", 503, `UNAVAILABLE 1  unexpected 1\n$`)
		<-time.After(time.Second)
		end(Outcome{Operation: "get", Wanted: true})
		check("a call ended well", 200, `^steady 1s/1h0m0s  2/s  at once 0 .* OK 1, UNAVAILABLE 1  unexpected 1\n$`)
		<-time.After(stale)
		check("at last still", 200, "")
		end(Outcome{Operation: "get", Err: errors.Coded(codes.Unavailable, "away")})
		<-time.After(time.Nanosecond)
		check("too long ago", 503, `UNAVAILABLE 2, OK 1  unexpected 2\n$`)
	})
}
