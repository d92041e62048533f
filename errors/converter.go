package errors

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// A Converter turns the errors of handlers into statuses and the statuses of
// calls into errors. The zero value and nil are Converters without options. It
// is safe for concurrent use.
type Converter struct {
	domain          string
	mappers         []Mapper
	withoutDefaults bool
	policy          RemotePolicy
	maxBytes        int
	debugInfo       func(context.Context) bool
	requestInfo     func(context.Context) string
}

// An Option changes what a [Converter] does.
type Option interface{ apply(*Converter) }

type optionFunc func(*Converter)

func (f optionFunc) apply(c *Converter) { f(c) }

// NewConverter makes a [Converter]. A nil option is skipped; of an option given
// twice the last counts, but for [WithMapper].
func NewConverter(opts ...Option) *Converter {
	c := &Converter{}
	for _, opt := range opts {
		if opt != nil {
			opt.apply(c)
		}
	}
	return c
}

// WithDomain sets the domain of errors that have a reason but no domain. The
// default is to leave it empty.
func WithDomain(domain string) Option {
	return optionFunc(func(c *Converter) { c.domain = valid(domain) })
}

// WithMapper adds a [Mapper]. Mappers are asked in the order they are added,
// all before the default ones. A nil mapper is skipped.
func WithMapper(m Mapper) Option {
	return optionFunc(func(c *Converter) {
		if m != nil {
			c.mappers = append(c.mappers, m)
		}
	})
}

// WithoutDefaultMappers leaves out the mappers for the errors of the standard
// library that [Converter.Convert] lists.
func WithoutDefaultMappers() Option {
	return optionFunc(func(c *Converter) { c.withoutDefaults = true })
}

// WithRemotePolicy sets what becomes of the errors of other services. The
// default, and nil, is [Translate].
func WithRemotePolicy(p RemotePolicy) Option {
	return optionFunc(func(c *Converter) { c.policy = p })
}

// DefaultMaxStatusBytes is how much of a call's trailer a status may take. It
// leaves room for other trailers where 8 KB are allowed for all of them.
const DefaultMaxStatusBytes = 7168

// WithMaxStatusBytes sets how many bytes of a call's trailer a status may take,
// its message and its details as they are encoded for HTTP/2, see
// [Converter.Status]. The default, and zero or less, is
// [DefaultMaxStatusBytes].
func WithMaxStatusBytes(n int) Option {
	return optionFunc(func(c *Converter) { c.maxBytes = n })
}

// WithDebugInfo lets google.rpc.DebugInfo through where enabled returns true
// for the handler's context, for callers who may see it, and adds one with the
// whole private text and the stack to errors that have none. The default, and
// nil, is never: a DebugInfo is taken out of whatever is returned.
func WithDebugInfo(enabled func(context.Context) bool) Option {
	return optionFunc(func(c *Converter) { c.debugInfo = enabled })
}

// WithRequestInfo adds a google.rpc.RequestInfo with the id that requestID
// returns for the handler's context to errors that have none; it is not added
// for an empty id. The default, and nil, is not to add it.
func WithRequestInfo(requestID func(context.Context) string) Option {
	return optionFunc(func(c *Converter) { c.requestInfo = requestID })
}

// Convert classifies the error that a handler returned: what Convert returns is
// what the caller will be told, with err as its private cause. A nil err is
// nil. It decides by the first of:
//
//   - The outermost *Error or error with a GRPCStatus method in err, with its own
//     message; never the text of what wraps it. A remote error is first judged by
//     the [RemotePolicy]. A status that is nil or OK is Unknown.
//   - The mappers: [WithMapper]'s, then the default ones, which take the errors of
//     the context package as DeadlineExceeded and Canceled; sql.ErrNoRows and
//     fs.ErrNotExist as NotFound; fs.ErrExist as AlreadyExists; fs.ErrPermission as
//     Internal; [ErrUnsupported] as Unimplemented; connections refused or reset and
//     names that do not resolve as Unavailable.
//   - ctx, if it is done: DeadlineExceeded or Canceled.
//   - Unknown.
//
// Of joined errors an explicit one comes before another service's, that before a
// mapped one, and that before a plain one; among equals the most severe rules,
// the service's own faults before what may pass before the caller's mistakes. The
// field violations of those with the same code are put together.
//
// An *Error that already is what the caller will be told is returned as it is,
// so that Convert of what Convert returned changes nothing.
func (c *Converter) Convert(ctx context.Context, err error) *Error {
	if err == nil {
		return nil
	}
	if c == nil {
		c = &standard
	}
	e := c.classify(ctx, err)
	if e.reason != "" && e.domain == "" && c.domain != "" && e.status == nil {
		e = e.copied()
		e.domain = c.domain
	}
	return e
}

func (c *Converter) classify(ctx context.Context, err error) *Error {
	policy := func(remote *Error) *Error { return c.judgeRemote(ctx, remote) }
	if v := explicit(err, policy); v.err != nil {
		return because(v.err, err, v.rank == own)
	}
	if e := c.mapAll(err); e != nil {
		return because(e, err, false)
	}
	code := codeOf(ctx)
	if code == codes.OK {
		code = codes.Unknown
	}
	return &Error{code: code, message: defaultText(code), cause: err}
}

// read classifies err for its reader: a remote error is what it is, and there is
// no context.
func (c *Converter) read(err error) *Error {
	if err == nil {
		return nil
	}
	if v := explicit(err, nil); v.err != nil {
		return v.err
	}
	if e := c.mapAll(err); e != nil {
		return e
	}
	return &Error{code: codes.Unknown, message: defaultText(codes.Unknown), cause: err}
}

func (c *Converter) judgeRemote(ctx context.Context, remote *Error) *Error {
	var e *Error
	if c.policy != nil {
		e = c.policy(ctx, remote)
	}
	if e == nil {
		e = Translate(ctx, remote)
	}
	e = e.copied()
	e.settled = true
	return e
}

// because is e with err as its cause. One that is within err says what err says;
// one that was made of it keeps a cause of its own, too.
func because(e *Error, err error, within bool) *Error {
	if error(e) == err || Is(e.cause, err) {
		return e
	}
	e = e.copied()
	switch {
	case within || e.remote:
		e.cause, e.over = err, true
	case e.cause == nil || Is(err, e.cause):
		e.cause = err
	default:
		e.cause = fmt.Errorf("%w: %w", e.cause, err)
	}
	return e
}

// Status is the status for the error that a handler returned: that of
// [Converter.Convert], within a number of bytes. A nil err is nil, which is
// status OK.
//
// A trailer that is too large fails the call as Internal or, where the peer
// allows no more than 8 KB of headers, the connection with every call on it.
// [WithMaxStatusBytes] bounds the message and the details as HTTP/2 carries
// them, percent-encoded and in base64. What is beyond is left out in this order:
// the message after 512 bytes, if it is too long even without details; then
// DebugInfo, Help, LocalizedMessage, and details of other types from the last
// one; then field and other violations from the last one; and then, of
// ErrorInfo, the longest metadata. Code, identity and RetryInfo always
// remain, and ErrorInfo says truncated=true.
func (c *Converter) Status(ctx context.Context, err error) *status.Status {
	if err == nil {
		return nil
	}
	if c == nil {
		c = &standard
	}
	e := c.Convert(ctx, err)
	message := e.Message()
	details := c.amended(ctx, e)
	message, details = fit(message, details, c.limit(), c.domain)
	return newStatus(e.code, message, details)
}

// amended are the details of e with what the converter adds and takes away.
func (c *Converter) amended(ctx context.Context, e *Error) []*anypb.Any {
	details := e.packed()
	if c.requestInfo != nil && !has(details, requestInfo) {
		if id := c.requestInfo(ctx); id != "" {
			details = append(slices.Clip(details), pack(&errdetails.RequestInfo{RequestId: valid(id)}))
		}
	}
	if c.debugInfo == nil || !c.debugInfo(ctx) {
		return without(details, debugInfo)
	}
	if has(details, debugInfo) {
		return details
	}
	info := &errdetails.DebugInfo{Detail: valid(e.Error())}
	if stack := e.Stack(); stack != "" {
		info.StackEntries = strings.Split(strings.TrimSuffix(stack, "\n"), "\n")
	}
	return append(slices.Clip(details), pack(info))
}

func (c *Converter) limit() int {
	if c.maxBytes <= 0 {
		return DefaultMaxStatusBytes
	}
	return c.maxBytes
}

// FromRPC is the error of a call for the one who made it. An error with a
// status becomes an *Error marked [Error.Remote], with the identity, text and
// details that were sent, so [Is] and the reading functions work on it as they
// do where it was made; [status.FromError] and [status.Code] read the status as
// it was received. A plain context error becomes Remote, too, with its code.
// If ctx, the context of the call, is done, the result also is its error: [Is]
// finds [context.DeadlineExceeded] or [context.Canceled].
//
// Nil, [io.EOF] at the end of a stream, what already is an *Error and errors
// that did not come from gRPC are returned as they are.
func (c *Converter) FromRPC(ctx context.Context, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := AsType[*Error](err); ok {
		return err
	}
	e := explicit(err, nil).err
	if e == nil {
		code := mapContext(err)
		if code == codes.OK {
			return err
		}
		e = &Error{code: code, message: defaultText(code)}
	}
	e.remote, e.over, e.cause = true, true, err
	if codeOf(ctx) == e.code {
		e.cause = &callError{error: err, code: e.code}
	}
	return e
}

// callError is the error of a call that ended with its context.
type callError struct {
	error
	code codes.Code
}

func (e *callError) Unwrap() []error {
	if e.code == codes.Canceled {
		return []error{e.error, context.Canceled}
	}
	return []error{e.error, context.DeadlineExceeded}
}

func has(details []*anypb.Any, name string) bool {
	return slices.ContainsFunc(details, func(p *anypb.Any) bool { return string(p.MessageName()) == name })
}
