package interceptors

import (
	"fmt"
	"strings"
)

// Matcher tells whether something applies to a call. It may look at
// FullMethod, Kind, Side, Target and Metadata, must not change the call, and is
// called by many goroutines at the same time.
type Matcher func(*Call) bool

// Methods matches calls by method. A pattern is a full method
// ("/users.v1.UserService/GetUser"), all methods of a service
// ("/users.v1.UserService/*") or all calls ("*"). A pattern of any other form
// could never match, so Methods panics, as it does without patterns: both are
// mistakes that should not survive the start of a program.
func Methods(patterns ...string) Matcher {
	if len(patterns) == 0 {
		panic("interceptors: Methods: no pattern given, which would match nothing")
	}
	exact := make(map[string]bool)
	services := make(map[string]bool)
	for _, p := range patterns {
		if p == "*" {
			return func(*Call) bool { return true }
		}
		service, method, err := parsePattern(p)
		if err != nil {
			panic("interceptors: Methods: " + err.Error())
		}
		if method == "*" {
			services[service] = true
		} else {
			exact[p] = true
		}
	}
	return func(c *Call) bool {
		if exact[c.FullMethod] {
			return true
		}
		return len(services) > 0 && strings.HasPrefix(c.FullMethod, "/") && services[c.Service()]
	}
}

// parsePattern splits "/service/method"; method may be "*".
func parsePattern(p string) (service, method string, err error) {
	rest, slash := strings.CutPrefix(p, "/")
	i := strings.LastIndexByte(rest, '/')
	if !slash || i <= 0 || i == len(rest)-1 {
		return "", "", patternError(p)
	}
	service, method = rest[:i], rest[i+1:]
	if strings.ContainsAny(service, "* ") || (method != "*" && strings.ContainsAny(method, "* ")) {
		return "", "", patternError(p)
	}
	return service, method, nil
}

func patternError(p string) error {
	return fmt.Errorf(`pattern %q can match no method; want "/pkg.Service/Method", "/pkg.Service/*" or "*"`, p)
}

// Not matches the calls that m does not. A nil m matches every call, so Not of
// it matches none.
func Not(m Matcher) Matcher {
	if m == nil {
		return func(*Call) bool { return false }
	}
	return func(c *Call) bool { return !m(c) }
}

// isNoise matches what is not observed unless asked for: health checks,
// reflection and channelz.
var isNoise = Methods(
	"/grpc.health.v1.Health/*",
	"/grpc.reflection.v1.ServerReflection/*",
	"/grpc.reflection.v1alpha.ServerReflection/*",
	"/grpc.channelz.v1.Channelz/*",
)
