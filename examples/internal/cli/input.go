package cli

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"

	usersv1 "github.com/rpcscope/rpcscope/examples/gen/users/v1"
)

// read returns the users of r: JSON objects if it begins with one, else CSV. It ends with the first error.
func read(r io.Reader) iter.Seq2[*usersv1.NewUser, error] {
	in := bufio.NewReader(r)
	for {
		first, err := in.Peek(1)
		switch {
		case err == io.EOF:
			return func(func(*usersv1.NewUser, error) bool) {}
		case err != nil:
			return func(yield func(*usersv1.NewUser, error) bool) { yield(nil, err) }
		case strings.ContainsRune(" \t\r\n", rune(first[0])):
			_, _ = in.Discard(1)
			continue
		case first[0] == '{':
			return readJSON(in)
		}
		return readCSV(in)
	}
}

func readJSON(in io.Reader) iter.Seq2[*usersv1.NewUser, error] {
	return func(yield func(*usersv1.NewUser, error) bool) {
		values := json.NewDecoder(in)
		values.DisallowUnknownFields()
		for n := 0; ; n++ {
			var line struct{ Name, Email string }
			err := values.Decode(&line)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf(`object %d, counted from 0: %w, want {"name": ..., "email": ...}`, n, err))
				return
			}
			if !yield(&usersv1.NewUser{Name: line.Name, Email: line.Email}, nil) {
				return
			}
		}
	}
}

// readCSV reads name and address; a first line that says just that is a heading.
func readCSV(in io.Reader) iter.Seq2[*usersv1.NewUser, error] {
	return func(yield func(*usersv1.NewUser, error) bool) {
		records := csv.NewReader(in)
		records.FieldsPerRecord = 2
		records.TrimLeadingSpace = true
		for first := true; ; first = false {
			record, err := records.Read()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("%w, want NAME,EMAIL", err))
				return
			}
			if first && strings.EqualFold(record[0], "name") && strings.EqualFold(record[1], "email") {
				continue
			}
			if !yield(&usersv1.NewUser{Name: record[0], Email: record[1]}, nil) {
				return
			}
		}
	}
}
