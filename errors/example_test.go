package errors_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/rpcscope/rpcscope/errors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
)

// ErrQuota is what the examples define.
var ErrQuota = errors.Define(codes.ResourceExhausted, "users.example.com", "QUOTA_EXCEEDED", "{user} may make {limit} calls an hour")

var (
	background = context.Background()
	converter  = errors.NewConverter()
)

// wire stands for a connection: what a handler returns on one side, a caller
// gets on the other.
func wire(returned error) error {
	return converter.FromRPC(background, converter.Status(background, returned).Err())
}

// Whatever wraps the error on its way out of the handler, the caller sees the
// code and the public text.
func Example() {
	handler := func() error {
		err := errors.NotFound("user %d does not exist", 7)
		return fmt.Errorf("query 10.0.0.1: %w", err)
	}

	err := handler()
	fmt.Println("log:   ", err)
	fmt.Println("caller:", errors.Code(wire(err)), errors.Message(wire(err)))
	// Output:
	// log:    query 10.0.0.1: NotFound: user 7 does not exist
	// caller: NotFound user 7 does not exist
}

func ExampleDefine() {
	err := wire(ErrQuota.With("user", "ada").With("limit", 100))

	fmt.Println(errors.Is(err, ErrQuota))
	fmt.Println(errors.Message(err))
	fmt.Println(errors.Reason(err))
	// Output:
	// true
	// ada may make 100 calls an hour
	// users.example.com QUOTA_EXCEEDED
}

// The cause stays in the process, where Is and logs find it.
func ExampleWrap() {
	find := func() error {
		return errors.Wrap(sql.ErrNoRows, errors.NotFound("no such user"))
	}

	err := find()
	fmt.Println(err)
	fmt.Println(errors.Is(err, sql.ErrNoRows), errors.Is(wire(err), sql.ErrNoRows))
	fmt.Println(errors.Message(wire(err)))
	// Output:
	// NotFound: no such user: sql: no rows in result set
	// true false
	// no such user
}

func ExampleInternal() {
	err := errors.Internal(errors.New("disk /dev/sda1 is full"))

	fmt.Println("log:   ", err)
	fmt.Println("caller:", errors.Message(wire(err)))
	// Output:
	// log:    Internal: disk /dev/sda1 is full
	// caller: internal error
}

func ExampleError_WithField() {
	err := wire(errors.InvalidArgument("bad request").
		WithField("name", "EMPTY", "must not be empty").
		WithField("emails[0]", "NOT_AN_ADDRESS", "must have an @"))

	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	for _, v := range bad.GetFieldViolations() {
		fmt.Println(v.GetField(), v.GetReason(), v.GetDescription())
	}
	// Output:
	// name EMPTY must not be empty
	// emails[0] NOT_AN_ADDRESS must have an @
}

// Checks of a request are joined; the caller gets the violations of all, and no
// error if there are none.
func ExampleJoin() {
	check := func(name string, age int) error {
		var errs []error
		if name == "" {
			errs = append(errs, errors.InvalidArgument("the user is not valid").WithField("name", "EMPTY", "must not be empty"))
		}
		if age < 0 {
			errs = append(errs, errors.InvalidArgument("the user is not valid").WithField("age", "NEGATIVE", "must not be negative"))
		}
		return errors.Join(errs...)
	}

	err := wire(check("", -1))
	fmt.Println(errors.Message(err))
	bad, _ := errors.Detail[*errdetails.BadRequest](err)
	for _, v := range bad.GetFieldViolations() {
		fmt.Println("-", v.GetField(), v.GetDescription())
	}
	fmt.Println(check("ada", 36))
	// Output:
	// the user is not valid
	// - name must not be empty
	// - age must not be negative
	// <nil>
}

func ExampleError_WithRetry() {
	err := wire(errors.Unavailable("starting up").WithRetry(1500 * time.Millisecond))

	if wait, ok := errors.RetryAfter(err); ok {
		fmt.Println("again in", wait)
	}
	// Output: again in 1.5s
}

func ExampleDetail() {
	err := wire(errors.FailedPrecondition("sign the terms first").WithDetails(&errdetails.Help{
		Links: []*errdetails.Help_Link{{Description: "Terms", Url: "https://example.com/terms"}},
	}))

	if help, ok := errors.Detail[*errdetails.Help](err); ok {
		fmt.Println(help.GetLinks()[0].GetUrl())
	}
	// Output: https://example.com/terms
}

// A service that calls others: what a dependency says is not what the service
// says, unless it wants to.
func ExampleForward() {
	fromDependency := wire(errors.NotFound("no such row"))

	returned := fmt.Errorf("ask storage: %w", fromDependency)
	fmt.Println("translated:", errors.Message(wire(returned)))
	fmt.Println("forwarded: ", errors.Message(wire(errors.Forward(returned))))
	fmt.Println("own error: ", errors.Message(wire(errors.Wrap(returned, errors.NotFound("no such user")))))
	// Output:
	// translated: internal error
	// forwarded:  no such row
	// own error:  no such user
}

// A driverError stands for the error of a PostgreSQL driver.
type driverError struct{ state string }

func (e *driverError) Error() string    { return "ERROR: duplicate key (SQLSTATE " + e.state + ")" }
func (e *driverError) SQLState() string { return e.state }

// A database's errors are mapped once, not in each handler.
func ExampleWithMapper() {
	fromDatabase := func(err error) *errors.Error {
		e, ok := errors.AsType[interface {
			error
			SQLState() string
		}](err)
		if !ok {
			return nil
		}
		switch e.SQLState() {
		case "23505": // unique_violation
			return errors.AlreadyExists("that name is taken")
		case "40001": // serialization_failure
			return errors.Aborted("somebody else was faster").WithRetry(50 * time.Millisecond)
		}
		return errors.Internal(err)
	}
	c := errors.NewConverter(errors.WithMapper(fromDatabase))

	for _, err := range []error{&driverError{"23505"}, &driverError{"40001"}, &driverError{"42601"}, sql.ErrNoRows} {
		s := c.Status(background, fmt.Errorf("users table: %w", err))
		fmt.Println(s.Code(), "-", s.Message())
	}
	// Output:
	// AlreadyExists - that name is taken
	// Aborted - somebody else was faster
	// Internal - internal error
	// NotFound - not found
}

// A web server in front of gRPC services speaks for them, but not for gRPC: an
// error without a policy may have the address of a service that is down.
func ExamplePass() {
	gateway := errors.NewConverter(errors.WithRemotePolicy(func(ctx context.Context, remote *errors.Error) *errors.Error {
		if remote.Code() == codes.Unavailable {
			return errors.Translate(ctx, remote)
		}
		return errors.Pass(ctx, remote)
	}))
	respond := func(err error) {
		e := gateway.Convert(background, err)
		fmt.Println(errors.HTTPStatus(e.Code()), http.StatusText(errors.HTTPStatus(e.Code())), "-", e.Message())
	}

	respond(wire(errors.NotFound("no such user")))
	respond(wire(errors.Unavailable("dial tcp 10.0.0.1:443: connection refused")))
	// Output:
	// 404 Not Found - no such user
	// 503 Service Unavailable - service unavailable
}

// Any of the standard library's functions is here, too.
func ExampleAsType() {
	err := fmt.Errorf("call: %w", wire(ErrQuota.With("user", "ada")))

	if e, ok := errors.AsType[*errors.Error](err); ok {
		fmt.Println(e.Code(), e.Remote(), e.Metadata()["user"])
	}
	// Output: ResourceExhausted true ada
}
