// Package section writes the parts of files that programs write: what stands
// between two lines.
package section

import (
	"fmt"
	"os"
	"strings"
)

// Section is a part of a file, between a line that tells who writes it and one
// that ends it.
type Section struct {
	Name   string // what it has, such as "what it costs"
	Writer string // the command that writes it, such as "make bench"
}

func (s Section) begin() string {
	return fmt.Sprintf("<!-- begin: %s, written by %s -->\n", s.Name, s.Writer)
}

func (s Section) end() string { return fmt.Sprintf("<!-- end: %s -->\n", s.Name) }

// Write makes content the section of the file.
func (s Section) Write(path, content string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := s.Replace(string(text), content)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

// Replace returns text with content as the section.
func (s Section) Replace(text, content string) (string, error) {
	before, rest, begins := strings.Cut(text, s.begin())
	_, after, ends := strings.Cut(rest, s.end())
	if !begins || !ends {
		return "", fmt.Errorf("want the line %q and after it %q", s.begin(), s.end())
	}
	return before + s.begin() + "\n" + content + "\n" + s.end() + after, nil
}
