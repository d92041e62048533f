package interceptors

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/propagation"
)

// ErrPermissionDenied says that the caller is known and may not make the call.
// Its cause, in span and log only, says what is missing.
var ErrPermissionDenied = errors.Define(codes.PermissionDenied, "rpcscope", "PERMISSION_DENIED", "permission denied")

// Authorize lets a server's calls happen only where a rule allows it:
//
//	Authorize(
//		Anyone("/grpc.health.v1.Health/*"),
//		Allow("/users.v1.UserService/DeleteUser", Role("admin")),
//		Allow("/users.v1.UserService/*", Scope("users.read")),
//		Allow("/audit.v1.AuditService/*", AnyOf(Role("admin"), Role("auditor"))),
//	)
//
// The first rule whose pattern matches the method decides, and those after it are
// not looked at. Where no rule matches nobody may make the call.
//
// Put it inside of [Authenticate]: only an identity that authentication in this
// process has verified counts, and not after its ExpiresAt: what a caller says of
// itself, or a trusted peer of somebody, is never enough.
//
// A call that is not allowed ends with [ErrPermissionDenied]; where a rule wants an
// identity and there is no verified one, with [ErrNoCredentials], or
// [ErrIdentityExpired]. What is missing is the attribute
// rpcscope.authorization.missing of span and access log, and not on the wire. The
// call is counted in rpcscope.server.rejected by the reasons permission_denied,
// unauthenticated and identity_expired.
//
// Rules are checked here: Authorize panics, naming the rule, where a pattern or a
// requirement is malformed or where a rule can never decide because an earlier one
// matches all that it matches; also without any rule. Given to a client it fails
// every call with Internal. The interceptor may be used by several servers.
func Authorize(rules ...Rule) Interceptor {
	p := newPolicy(rules)
	return func(ctx context.Context, call *Call, next Next) error {
		if err := serverInterceptor("Authorize", call); err != nil {
			return err
		}
		if err := p.authorize(ctx, call); err != nil {
			return err
		}
		return next(ctx)
	}
}

// Rule says who may make some calls. [Allow] and [Anyone] make one; the zero value
// is malformed.
type Rule struct {
	pattern string
	needs   []Requirement
	anyone  bool
}

// Allow is the [Rule] that calls whose method matches pattern are for callers who
// meet all of the requirements; without any, for everybody who has authenticated.
// Patterns are those of [Methods]: "/pkg.Service/Method", "/pkg.Service/*" or "*".
func Allow(pattern string, needs ...Requirement) Rule {
	return Rule{pattern: pattern, needs: slices.Clone(needs)}
}

// Anyone is the [Rule] that calls whose method matches pattern are for everybody,
// authenticated or not. It takes [AllowAnonymous] as well to get there without
// credentials.
func Anyone(pattern string) Rule { return Rule{pattern: pattern, anyone: true} }

// String returns the rule as it is written.
func (r Rule) String() string {
	if r.anyone {
		return fmt.Sprintf("Anyone(%q)", r.pattern)
	}
	return fmt.Sprintf("Allow(%q%s)", r.pattern, arguments(", ", r.needs))
}

// Requirement is what a [Rule] wants of an identity. [Role], [Scope] and [AnyOf]
// make one; the zero value is malformed.
type Requirement struct {
	kind requirementKind
	name string
	any  []Requirement
}

type requirementKind uint8

const (
	needsNothing requirementKind = iota // of the zero value
	needsRole
	needsScope
	needsAny
)

// Role is met by an identity that has the role, spelled exactly so.
func Role(name string) Requirement { return Requirement{kind: needsRole, name: name} }

// Scope is met by an identity whose credentials were issued for the scope, spelled
// exactly so: "users" is not "users.read", and there are no wildcards (RFC 6749,
// section 3.3). Of several scopes, which OAuth writes with spaces between them, each
// is a requirement of its own.
func Scope(name string) Requirement { return Requirement{kind: needsScope, name: name} }

// AnyOf is met by an identity that meets one of the requirements.
func AnyOf(needs ...Requirement) Requirement {
	return Requirement{kind: needsAny, any: slices.Clone(needs)}
}

// String returns the requirement as it is written.
func (r Requirement) String() string {
	switch r.kind {
	case needsRole:
		return fmt.Sprintf("Role(%q)", r.name)
	case needsScope:
		return fmt.Sprintf("Scope(%q)", r.name)
	case needsAny:
		return "AnyOf(" + arguments("", r.any) + ")"
	}
	return "Requirement{}"
}

func arguments(before string, needs []Requirement) string {
	var s strings.Builder
	for _, n := range needs {
		s.WriteString(before)
		s.WriteString(n.String())
		before = ", "
	}
	return s.String()
}

func (r Requirement) met(id *propagation.Identity) bool {
	switch r.kind {
	case needsRole:
		return slices.Contains(id.Roles, r.name)
	case needsScope:
		return slices.Contains(id.Scopes, r.name)
	}
	return slices.ContainsFunc(r.any, func(one Requirement) bool { return one.met(id) })
}

// mistake is why nobody could meet the requirement, or "".
func (r Requirement) mistake() string {
	switch {
	case r.kind == needsNothing:
		return "a requirement is empty; want Role, Scope or AnyOf"
	case r.kind == needsAny && len(r.any) == 0:
		return "AnyOf() can be met by nobody; want at least one requirement in it"
	case r.kind == needsRole && r.name == "":
		return `Role("") can be met by nobody; want the name of a role`
	case r.kind == needsScope && !scopeToken(r.name):
		return fmt.Sprintf(`%v can be met by nobody; want one scope, of printable characters without spaces, '"' and '\'`, r)
	}
	for _, one := range r.any {
		if m := one.mistake(); m != "" {
			return m
		}
	}
	return ""
}

// scopeToken is that of RFC 6749, section 3.3.
func scopeToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// policy is rules, with those found first that decide.
type policy struct {
	rules    []Rule
	methods  map[string]int // full method to rule
	services map[string]int
	all      int // the rule for "*", len(rules) if there is none
}

func newPolicy(rules []Rule) *policy {
	if len(rules) == 0 {
		panic("interceptors: Authorize: no rule given, which would refuse every call")
	}
	p := &policy{rules: slices.Clone(rules), methods: map[string]int{}, services: map[string]int{}, all: len(rules)}
	for i, r := range p.rules {
		if m := p.add(i, r); m != "" {
			panic(fmt.Sprintf("interceptors: Authorize: rule %d, %v: %s", i+1, r, m))
		}
	}
	return p
}

// add returns what is wrong with the rule, or "".
func (p *policy) add(i int, r Rule) string {
	service, method := "", ""
	if r.pattern != "*" {
		var err error
		if service, method, err = parsePattern(r.pattern); err != nil {
			return err.Error()
		}
	}
	for _, n := range r.needs {
		if m := n.mistake(); m != "" {
			return m
		}
	}
	earlier := p.all
	switch {
	case r.pattern == "*":
		p.all = min(p.all, i)
	case method == "*":
		earlier = min(earlier, first(p.services, service, i))
	default:
		earlier = min(earlier, lookUp(p.services, service, i), first(p.methods, r.pattern, i))
	}
	if earlier < i {
		return fmt.Sprintf("it can never decide: rule %d, %v, matches all that it matches and comes before it", earlier+1, p.rules[earlier])
	}
	return ""
}

// lookUp is the rule for key, i if there is none.
func lookUp(rules map[string]int, key string, i int) int {
	if found, ok := rules[key]; ok {
		return found
	}
	return i
}

// first is lookUp, and makes i the rule for key where there is none.
func first(rules map[string]int, key string, i int) int {
	found := lookUp(rules, key, i)
	rules[key] = found
	return found
}

// decisive is the first rule that matches the method, nil if there is none.
func (p *policy) decisive(call *Call) *Rule {
	if !strings.HasPrefix(call.FullMethod, "/") {
		return nil // no server should take it, and no pattern means it
	}
	// A rule for a method is before that for its service, and both are before that
	// for all: elsewhere they could never decide.
	i, ok := p.methods[call.FullMethod]
	if !ok {
		i, ok = p.services[call.Service()]
	}
	if !ok {
		i = p.all
	}
	if i == len(p.rules) {
		return nil
	}
	return &p.rules[i]
}

func (p *policy) authorize(ctx context.Context, call *Call) error {
	rule := p.decisive(call)
	if rule == nil {
		return deny(ctx, call, ErrPermissionDenied, reasonPermissionDenied, "a rule that matches "+call.FullMethod)
	}
	if rule.anyone {
		return nil
	}
	id, _ := propagation.IdentityFromContext(ctx)
	switch {
	case !id.Verified():
		missing := "a verified identity"
		if call.added == nil || !call.added.anonymous {
			missing += " (no Authenticate ran outside of Authorize)"
		}
		return deny(ctx, call, ErrNoCredentials, reasonUnauthenticated, missing)
	case expired(id):
		return deny(ctx, call, ErrIdentityExpired, reasonIdentityExpired, "an identity that has not expired")
	}
	for _, n := range rule.needs {
		if !n.met(&id) {
			return deny(ctx, call, ErrPermissionDenied, reasonPermissionDenied, n.String())
		}
	}
	return nil
}

const authorizationMissingKey = attribute.Key("rpcscope.authorization.missing")

// deny tells the operator what is missing, and the caller that something is.
func deny(ctx context.Context, call *Call, as *errors.Error, reason, missing string) error {
	call.AddAttributes(authorizationMissingKey.String(missing))
	call.reject(ctx, reason)
	return as.WithCause(errors.New("interceptors: Authorize: missing: " + missing))
}
