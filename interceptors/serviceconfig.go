package interceptors

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// RetryServiceConfig is the policy as a gRPC service config, for those who would
// rather have gRPC retry than [Retry]:
//
//	grpc.WithDefaultServiceConfig(interceptors.RetryServiceConfig(policy, "/users.v1.UserService/*"))
//
// It is for the methods that the patterns, as those of [Methods], name, and
// without any for all of them. gRPC makes at most 5 attempts, its wait is the
// backoff give or take 20 %, and of what a server asks for it knows pushback and
// not RetryInfo; with [WithAttempts] the attempts are seen. It has no timeout for
// an attempt. Streams of requests it makes again as well, from a copy of what was
// sent, until the server has answered. RetryServiceConfig panics if the policy
// makes no sense or has a PerAttemptTimeout, and on a pattern that can match
// nothing or is given twice.
//
// The format is that of gRPC's proposals A6 and A21.
func RetryServiceConfig(p RetryPolicy, patterns ...string) string {
	p = p.checked("RetryServiceConfig")
	if p.PerAttemptTimeout > 0 {
		panic(fmt.Sprintf("interceptors: RetryServiceConfig: RetryPolicy.PerAttemptTimeout is %v; want 0: gRPC has no such limit, Retry does", p.PerAttemptTimeout))
	}
	type name struct {
		Service string `json:"service,omitempty"`
		Method  string `json:"method,omitempty"`
	}
	type policy struct {
		MaxAttempts          int      `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
	type method struct {
		Name        []name  `json:"name"`
		RetryPolicy *policy `json:"retryPolicy,omitempty"`
	}
	type throttling struct {
		MaxTokens  float64 `json:"maxTokens"`
		TokenRatio float64 `json:"tokenRatio"`
	}
	var config struct {
		MethodConfig    []method    `json:"methodConfig"`
		RetryThrottling *throttling `json:"retryThrottling,omitempty"`
	}
	names := []name{}
	for i, pattern := range patterns {
		if slices.Contains(patterns[:i], pattern) {
			panic(fmt.Sprintf("interceptors: RetryServiceConfig: pattern %q is given twice; want each once: gRPC refuses such a config", pattern))
		}
		if pattern == "*" {
			names = append(names, name{})
			continue
		}
		service, of, err := parsePattern(pattern)
		if err != nil {
			panic("interceptors: RetryServiceConfig: " + err.Error())
		}
		names = append(names, name{Service: service, Method: strings.TrimSuffix(of, "*")})
	}
	if len(names) == 0 {
		names = append(names, name{})
	}
	m := method{Name: names}
	if p.MaxAttempts > 1 {
		m.RetryPolicy = &policy{
			MaxAttempts: p.MaxAttempts, InitialBackoff: seconds(p.InitialBackoff), MaxBackoff: seconds(p.MaxBackoff),
			BackoffMultiplier: p.Multiplier, RetryableStatusCodes: codeNamesOf(p.Codes),
		}
		if p.Budget > 0 {
			config.RetryThrottling = &throttling{maxTokens, p.Budget}
		}
	}
	config.MethodConfig = []method{m}
	text, err := json.Marshal(config)
	if err != nil {
		panic("interceptors: RetryServiceConfig: " + err.Error()) // text and numbers do not fail
	}
	return string(text)
}

// seconds is a duration as protobuf's JSON has it.
func seconds(d time.Duration) string {
	text := strings.TrimRight(fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second), "0")
	return strings.TrimSuffix(text, ".") + "s"
}

func codeNamesOf(all []codes.Code) []string {
	names := []string{}
	for _, code := range all {
		names = append(names, codeName(code))
	}
	return names
}
