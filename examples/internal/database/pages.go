package database

import (
	"context"
	"iter"
)

// Page is how many rows are read at once. No statement stays open while a reader is slow.
const Page = 100

// Pages returns what read returns, page by page: the rows after the one whose number is after, at most [Page], and the number
// of the last of them. It ends with the first error, which names operation.
func Pages[R any](ctx context.Context, operation string, read func(after int64) (rows []R, last int64, err error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for after := int64(0); ; {
			rows, last, err := read(after)
			if err != nil {
				var none R
				yield(none, Failed(ctx, operation, err))
				return
			}
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
			if len(rows) < Page {
				return
			}
			after = last
		}
	}
}
