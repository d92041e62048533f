package otelconf

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The examples of the specification's table, and what could go wrong:
// https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution
func TestSubstitute(t *testing.T) {
	env := environment{"STRING_VALUE": "value", "BOOL_VALUE": "true", "INT_VALUE": "1", "FLOAT_VALUE": "1.1", "HEX_VALUE": "0xdeadbeef",
		"INVALID_MAP_VALUE": "value\nkey:value", "DO_NOT_REPLACE_ME": "Never use this value", "REPLACE_ME": "${DO_NOT_REPLACE_ME}",
		"VALUE_WITH_ESCAPE": "value$$", "EMPTY": "", "MAP": "{a: b}"}
	const problem = "line 5: a reference to a variable is malformed; want ${NAME}, ${env:NAME} or ${NAME:-default}, and $$ for a dollar sign"
	for _, tt := range []struct {
		yaml string
		want any // the attribute's value, or a problem
	}{
		{"${STRING_VALUE}", "value"},
		{"${env:STRING_VALUE}", "value"},
		{"${BOOL_VALUE}", true},
		{"${INT_VALUE}", 1},
		{"${FLOAT_VALUE}", 1.1},
		{"${HEX_VALUE}", 3735928559},
		{`"${STRING_VALUE}"`, "value"},
		{`"${BOOL_VALUE}"`, "true"},
		{`"${INT_VALUE}"`, "1"},
		{`'${FLOAT_VALUE}'`, "1.1"},
		{"!!str ${INT_VALUE}", "1"},
		{"${INVALID_MAP_VALUE}", "value\nkey:value"},
		{"${MAP}", "{a: b}"},
		{"foo ${STRING_VALUE} ${FLOAT_VALUE}", "foo value 1.1"},
		{"${UNDEFINED_KEY:-fallback}", "fallback"},
		{"${EMPTY:-fallback}", "fallback"},
		{"${UNDEFINED_KEY:-2}", 2},
		{"${REPLACE_ME}", "${DO_NOT_REPLACE_ME}"},
		{"$${STRING_VALUE}", "${STRING_VALUE}"},
		{"$$${STRING_VALUE}", "$value"},
		{"$$$${STRING_VALUE}", "$${STRING_VALUE}"},
		{"$${STRING_VALUE:-fallback}", "${STRING_VALUE:-fallback}"},
		{"a $$ b", "a $ b"},
		{"a $ b", "a $ b"},
		{"${VALUE_WITH_ESCAPE}", "value$$"},
		{`"x${UNDEFINED_KEY}"`, "x"},
		{"${STRING_VALUE:?error}", problem},
		{"${1NAME}", problem},
		{`"${UNCLOSED"`, problem},
		{"${UNDEFINED_KEY}", "line 5: resource.attributes[0].value: want a text, a number, true, false or a list"},
	} {
		t.Run(tt.yaml, func(t *testing.T) {
			root, err := parse([]byte(lines("resource:", "  attributes:", "    - name: a", "      value: "+tt.yaml)))
			if err != nil {
				t.Fatal(err)
			}
			c := &checker{lines: map[string]int{}, seen: map[visit]bool{}}
			c.substitute(root, env.lookup)
			c.check(root, configuration, "")
			var got struct {
				Resource struct{ Attributes []struct{ Value any } }
			}
			if err := root.Decode(&got); err != nil {
				t.Fatal(err)
			}
			value := got.Resource.Attributes[0].Value
			if len(c.problems) > 0 {
				value = c.problems[0].Error()
			}
			if diff := cmp.Diff(tt.want, value); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Keys are no values.
func TestKeysAreNotSubstituted(t *testing.T) {
	if got, want := problems(t, lines("${KEY}: true"), environment{"KEY": "disabled"}), "line 2: ${KEY}: no such key; want "; len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("got %s, want %s...", got, want)
	}
}
