package interceptorstest

import (
	"fmt"

	"github.com/rpcscope/rpcscope/interceptors"
)

// Violation is an obligation that the interceptor has not met, and the
// situation it was in.
type Violation struct {
	Obligation string // its name, one of those in the package's documentation: "next-once"
	Rule       string // the obligation in a sentence
	Remedy     string // what to do about it

	Side   interceptors.Side // where the interceptor was installed
	Kind   interceptors.Kind
	Ending string // how the call went, the last element of the subtest's name: "panic"
	Got    string // what happened
}

// Error returns situation, obligation and what happened, in one line.
func (v *Violation) Error() string {
	return fmt.Sprintf("%s/%s/%s: %s: %s; %s: %s", v.Side, v.Kind, v.Ending, v.Obligation, v.Got, v.Rule, v.Remedy)
}

func (s situation) violation(o *obligation, format string, args ...any) *Violation {
	return &Violation{
		Obligation: o.name, Rule: o.rule, Remedy: o.remedy,
		Side: s.side, Kind: s.kind, Ending: s.ending.name, Got: fmt.Sprintf(format, args...),
	}
}

// obligation is what every interceptor owes to those around it. The numbers are
// those of the rules in the project's DESIGN.md.
type obligation struct{ name, rule, remedy string }

var (
	callsNext = &obligation{"calls-next",
		"an interceptor that lets calls happen calls next",
		"call next, or declare what it does instead with Rejects or MayAnswer"}
	nextOnce = &obligation{"next-once",
		"next is called once, because the rest of the call runs each time, and never at the same time",
		"call next once; if it is meant to repeat failed calls declare Retries"}
	nextAgain = &obligation{"next-again",
		"next is called again only after it failed and while the context is not done (rule 26 of rpcscope's DESIGN.md)",
		"stop as soon as next has returned nil or ctx.Err() is not nil, and wait in a select with ctx.Done()"}
	waitsForNext = &obligation{"waits-for-next",
		"an interceptor returns after next has returned, never before or instead (rule 8 of rpcscope's DESIGN.md)",
		"call next in the interceptor's own goroutine; to limit it give it a context with a deadline"}
	returnsError = &obligation{"returns-error",
		"the error of next is the error of the call, on its way to the caller, the span and the log (rules 2, 11 and 18 of rpcscope's DESIGN.md)",
		"return it as it is or wrapped with %w; if it is meant to become another one declare MapsErrors"}
	rejects = &obligation{"rejects",
		"the interceptor was declared to refuse every call with one code",
		"return an error with that code without calling next, or correct what Rejects says"}
	recovers = &obligation{"recovers",
		"the interceptor was declared to turn the panic of a handler into an error with one code",
		"return an error with that code after recover, or correct what Recovers says"}
	derivesContext = &obligation{"derives-context",
		"the context that next is given derives from the one that the interceptor was given: its values, deadline and cancellation reach the handler (rules 1 and 9 of rpcscope's DESIGN.md)",
		"make it of ctx, never of context.Background, context.WithoutCancel or a context kept from elsewhere"}
	releasesContext = &obligation{"releases-context",
		"a context that the interceptor made is cancelled when the call has ended, or its timer and children stay (rule 8 of rpcscope's DESIGN.md)",
		"defer the cancel function; next returns at the end of a stream too"}
	keepsMetadata = &obligation{"keeps-metadata",
		"the caller's metadata travels on, and an attempt does not add to that of the one before (rule 9 of rpcscope's DESIGN.md)",
		"add with metadata.AppendToOutgoingContext, or to a copy of what is there, and always to the ctx that the interceptor was given"}
	keepsCall = &obligation{"keeps-call",
		"FullMethod, Kind and Side of the Call are what the call is; Request and Response belong to unary calls",
		"leave them; messages of streams are seen with OnSend and OnReceive"}
	keepsMessages = &obligation{"keeps-messages",
		"requests and replies arrive complete, in their order and unchanged",
		"leave Request, Response and what the hooks are given; if it is meant to change them declare ChangesMessages"}
	keepsRequest = &obligation{"keeps-request",
		"the message that the caller passed in is the caller's, who may use it again",
		"set Call.Request to a changed copy (proto.Clone) instead of changing the message"}
	ends = &obligation{"ends",
		"an interceptor returns soon after next has returned, or its context is done (rules 1 and 8 of rpcscope's DESIGN.md)",
		"wait only in a select with ctx.Done(), and hold no lock where a panic leaves it locked"}
	passesPanics = &obligation{"passes-panics",
		"a panic goes on, so that it is counted, logged with its stack and recovered in one place (rule 10 of rpcscope's DESIGN.md)",
		"use defer without recover, or panic again; if it is meant to recover declare Recovers"}
	doesNotPanic = &obligation{"does-not-panic",
		"an interceptor returns an error instead of panicking or leaving with runtime.Goexit (rule 10 of rpcscope's DESIGN.md)",
		"fix the panic; do not call t.Fatal in an interceptor"}
	leavesSpan = &obligation{"leaves-span",
		"the call's span is not the interceptor's: it is ended once, elsewhere, with a status that follows from the code (rules 1 and 18 of rpcscope's DESIGN.md)",
		"add attributes and events to it, or start a span of your own"}
	leavesNoGoroutine = &obligation{"leaves-no-goroutine",
		"what the interceptor starts for a call ends with the call",
		"stop it in a deferred function and wait for it"}
	concurrent = &obligation{"concurrent",
		"an interceptor is called by many goroutines at the same time",
		"keep what belongs to one call in local variables, and hold no lock while next runs"}
)
