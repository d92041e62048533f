package otelconf

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	dollar    = regexp.MustCompile(`\$(\$|\{[^}]*\}?)`)
	reference = regexp.MustCompile(`^\$\{(?:env:)?([a-zA-Z_][a-zA-Z0-9_]*)(?::-([^\n]*))?\}$`)
)

// substitute replaces the references to variables in all values, as
// https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution
// says: of the parsed document, so that what a variable holds cannot become
// structure. An unquoted value is of the type that it then looks like.
func (c *checker) substitute(n *yaml.Node, lookup func(string) (string, bool)) {
	for i, child := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			c.substitute(child, lookup)
		}
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "$") {
		return
	}
	value := dollar.ReplaceAllStringFunc(n.Value, func(s string) string {
		if s == "$$" {
			return "$"
		}
		m := reference.FindStringSubmatch(s)
		if m == nil {
			c.problemAt(n.Line, "", "a reference to a variable is malformed; want ${NAME}, ${env:NAME} or ${NAME:-default}, and $$ for a dollar sign")
			return ""
		}
		if v, ok := lookup(m[1]); ok && v != "" {
			return v
		}
		return m[2]
	})
	if value == n.Value {
		return
	}
	n.Value = value
	if n.Style&(yaml.TaggedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		n.Tag = ""
	}
}
