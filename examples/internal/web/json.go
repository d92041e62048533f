package web

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/rpcscope/rpcscope/errors"
	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
	"github.com/rpcscope/rpcscope/propagation"
)

// user is a user as the web sees it.
type user struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Email   string    `json:"email"`
	Admin   bool      `json:"admin,omitempty"`
	Created time.Time `json:"created"`
}

func userOf(u *usersv1.User) user {
	return user{ID: u.GetId(), Name: u.GetName(), Email: u.GetEmail(), Admin: u.GetRole() == usersv1.Role_ROLE_ADMIN, Created: u.GetCreateTime().AsTime()}
}

// failure is an error as the web sees it: what the users service said to strangers, and where to look for the rest.
type failure struct {
	Code      string      `json:"code"`
	Domain    string      `json:"domain,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	Message   string      `json:"message"`
	Fields    []violation `json:"fields,omitempty"`
	RequestID string      `json:"requestId"`
	TraceID   string      `json:"traceId,omitempty"`
}

type violation struct {
	Field       string `json:"field"`
	Reason      string `json:"reason,omitempty"`
	Description string `json:"description"`
}

// failed is what stands in for a user when there is an error.
type failed struct {
	Error failure `json:"error"`
}

func failedWith(r *http.Request, err error) failed {
	f := failure{
		Code:      code.Code(errors.Code(err)).String(),
		Message:   errors.Message(err),
		RequestID: propagation.RequestID(r.Context()),
	}
	f.Domain, f.Reason = errors.Reason(err)
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		f.TraceID = sc.TraceID().String()
	}
	if bad, ok := errors.Detail[*errdetails.BadRequest](err); ok {
		for _, v := range bad.GetFieldViolations() {
			f.Fields = append(f.Fields, violation{v.GetField(), v.GetReason(), v.GetDescription()})
		}
	}
	return failed{f}
}

// fail answers with err. Nothing must have been written before.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if after, ok := errors.RetryAfter(err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	status := errors.HTTPStatus(errors.Code(err))
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	reply(w, status, failedWith(r, err))
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone; there is nobody to tell
}
