// Package protovalidate has messages checked against the rules that their .proto
// files state in the options of [buf.validate]:
//
//	message CreateUserRequest {
//		string email = 1 [(buf.validate.field).string.email = true];
//	}
//
//	server := grpc.NewServer(interceptors.ServerOptions(interceptors.Validate(protovalidate.New(nil)))...)
//
// It is a module of its own, so that the library does not bring an interpreter of
// CEL to those who have no use for it.
//
// # What the caller is told
//
// The error is [interceptors.ErrInvalid] with a violation for each rule that the
// message breaks, at most 100: the path of the field in Field, such as
// user.emails[2] or labels["x"], the id of the rule in Reason, and what the rule
// says in Description. Reasons are written as google.rpc wants them:
// string.min_len is STRING_MIN_LEN.
//
//	bad, ok := errors.Detail[*errdetails.BadRequest](err)
//
// Rules that cannot be compiled or evaluated are the service's own fault and no
// matter of the caller's, who gets Internal without a text.
//
// [buf.validate]: https://protovalidate.com/schemas/standard-rules/
package protovalidate
