// Package errors is one error model from the handler of a call to its caller:
// errors with a code, a text for strangers, an identity that survives the wire,
// and a cause that stays in the process. It takes the place of the standard
// library's package of that name.
//
//	var ErrUserNotFound = errors.Define(codes.NotFound, "users.example.com", "USER_NOT_FOUND", "user {id} does not exist")
//
//	// The server.
//	func (s *server) GetUser(ctx context.Context, req *pb.GetUserRequest) (*pb.User, error) {
//		if req.GetId() <= 0 {
//			return nil, errors.InvalidArgument("bad request").WithField("id", "NOT_POSITIVE", "must be greater than 0")
//		}
//		user, err := s.db.User(ctx, req.GetId())
//		if errors.Is(err, sql.ErrNoRows) {
//			return nil, errors.Wrap(err, ErrUserNotFound.With("id", req.GetId()))
//		}
//		if err != nil {
//			return nil, fmt.Errorf("read user from 10.0.0.1: %w", err) // the caller sees: Unknown, "unknown error"
//		}
//		return user, nil
//	}
//
//	// The client.
//	user, err := client.GetUser(ctx, req)
//	if errors.Is(err, ErrUserNotFound) {
//		...
//	}
//
// The interceptors of this module convert on both sides. Without them, a server
// does it with [Converter.Status] and a client with [Converter.FromRPC].
//
// # Two texts
//
// An error has a public text, [Error.Message], and a private one, [Error.Error].
// The public text, the identity and the details are all that reaches the wire.
// The private text has the cause as well and is for logs and spans; so are
// [Error.Format] with %+v and [Error.LogValue]. Nothing that wraps an error adds
// to what the caller sees, and an error that nobody has classified is sent as
// Unknown, without its text. Note that gRPC by itself does send the text of an
// error that wraps a status.
//
// Credentials that a text quotes in the form of a header, "authorization:
// Bearer ...", are replaced by "[redacted]" in both texts. This is a safety net:
// it does not know other secrets.
//
// # Making errors
//
// For most errors a constructor named after the code is enough: [NotFound],
// [InvalidArgument] and so on take a public text, whose format go vet checks.
// [Internal], [Unknown] and [DataLoss] are faults of the service itself: they
// take a cause and send a standard text. [Coded] is for a code in a variable.
//
// An error that callers are to recognise gets an identity: [Define] it once.
// The methods that begin with With add to an error, by returning a copy: values
// for its text and metadata, violations of fields, a delay for the next try, any
// other detail.
//
// # Reading errors
//
// [Is] compares the identity, the pair of domain and reason, on the server and on
// the client alike. [Code], [Reason], [Message], [RetryAfter] and [Detail] read
// any error, however deep the *Error or the status is in it, and
// gRPC's own as well; [AsType] gives the *Error. [status.FromError] and
// [status.Code] read an *Error.
//
// # From a handler to the wire
//
// [Converter.Convert] tells what an error is taken for: what the handler said
// explicitly, then what a [Mapper] makes of it, then the state of the
// context, then Unknown. Violations of fields that were found one by one are
// sent together, see [Join]. [Converter.Status] keeps the status within
// [DefaultMaxStatusBytes], because one that is too large fails the call, or all
// calls of its connection.
//
//	converter := errors.NewConverter(
//		errors.WithDomain("users.example.com"),              // of errors that name none
//		errors.WithMapper(fromPostgres),                     // a driver's errors
//		errors.WithRequestInfo(propagation.RequestID),       // for a person to quote
//	)
//	server := grpc.NewServer(interceptors.ServerOptions(interceptors.WithErrorConverter(converter))...)
//
// The interceptors put what a server failed with, the private text and the stack
// included, on the span and in the access log, and count it by code, domain and
// reason.
//
// # Errors of other services
//
// A dependency's error is not one's own: NotFound of a service that a handler
// called does not mean that what the handler's caller asked for does not exist.
// An error that came from a call is marked [Error.Remote], and a handler that
// returns it sends what the [RemotePolicy] makes of it, by default [Translate].
// [Forward] lets one through, [Wrap] makes it an error of one's own, and a gateway
// lets all through with [Pass].
//
// # Stacks
//
// Faults of the service know where they were made, see [Error.Stack]. The stack is
// not sent.
//
// [status.Code]: https://pkg.go.dev/google.golang.org/grpc/status#Code
// [status.FromError]: https://pkg.go.dev/google.golang.org/grpc/status#FromError
package errors
