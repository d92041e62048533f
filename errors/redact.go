package errors

import (
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

var (
	secretKeys   = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "token", "access_token", "refresh_token", "id_token", "api_key", "x-api-key", "password", "secret"}
	secretWords  = []string{"bearer ", "basic ", "authorization", "cookie"}
	credentials  = regexp.MustCompile(`(?i)\b(?:(?:bearer|basic)\s+)+([\w.~+/=-]+)`)
	headerValues = regexp.MustCompile(`(?i)\bauthorization["']?\s*[:=]\s*["'\[]*(?:[a-z]+\s+)?([\w.~+/=-]+)`)
	cookieValues = regexp.MustCompile(`(?i)\b(?:set-)?cookie["']?\s*[:=]\s*["'\[]*([\w-]+=[^\s,"'\]]+(?:;\s*[\w-]+(?:=[^\s;,"'\]]*)?)*)`)
)

// secretKey reports whether the value of that metadata key must not be shown.
func secretKey(key string) bool {
	return slices.ContainsFunc(secretKeys, func(s string) bool { return strings.EqualFold(s, key) })
}

// redact takes the credentials out of text that quotes a request's headers, as
// the errors of HTTP clients and token verifiers do. Text that names none of
// them, which is nearly all, is only looked through.
func redact(text string) string {
	if !slices.ContainsFunc(secretWords, func(word string) bool { return containsFold(text, word) }) {
		return text
	}
	for _, pattern := range []*regexp.Regexp{credentials, headerValues, cookieValues} {
		text = pattern.ReplaceAllStringFunc(text, func(match string) string {
			groups := pattern.FindStringSubmatch(match)
			secret := groups[1]
			if pattern != cookieValues && !likeToken(secret) {
				return match
			}
			return strings.TrimSuffix(match, secret) + redacted
		})
	}
	return text
}

// likeToken tells a credential from a word: "Bearer token expired" and
// "authorization: missing" are no secrets.
func likeToken(s string) bool {
	s = strings.TrimRight(s, ".=-")
	return len(s) >= 16 || len(s) >= 6 && strings.ContainsAny(s, "0123456789.~+/=_")
}

func containsFold(text, word string) bool {
	for i := range len(text) - len(word) + 1 {
		if text[i]|0x20 == word[0] && strings.EqualFold(text[i:i+len(word)], word) {
			return true
		}
	}
	return false
}
