package database

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"modernc.org/sqlite"

	"github.com/rpcscope/rpcscope/errors"
)

// instrumentation returns the options of otelsql: a span for each statement and each end of a transaction, none for
// rows, pooled connections and what happens outside any request.
func (c Config) instrumentation() []otelsql.Option {
	namespace := "memory"
	if c.Path != "" {
		namespace = filepath.Base(c.Path)
	}
	options := []otelsql.Option{
		otelsql.WithAttributes(semconv.DBSystemNameSQLite, semconv.DBNamespace(namespace)),
		otelsql.WithSpanNameFormatter(spanName),
		otelsql.WithAttributesGetter(operation),
		otelsql.WithInstrumentAttributesGetter(operation),
		otelsql.WithSpanErrorAttributesGetter(failure),
		otelsql.WithSpanOptions(otelsql.SpanOptions{
			OmitRows:             true,
			OmitConnPrepare:      true,
			OmitConnResetSession: true,
			OmitConnectorConnect: true,
			DisableErrSkip:       true,
			SpanFilter:           inRequest,
		}),
	}
	if c.TracerProvider != nil {
		options = append(options, otelsql.WithTracerProvider(c.TracerProvider))
	}
	if c.MeterProvider != nil {
		options = append(options, otelsql.WithMeterProvider(c.MeterProvider))
	}
	return options
}

func inRequest(ctx context.Context, _ otelsql.Method, _ string, _ []driver.NamedValue) bool {
	return trace.SpanContextFromContext(ctx).IsValid()
}

func spanName(_ context.Context, method otelsql.Method, query string) string {
	verb, table := verbAndTable(method, query)
	return strings.TrimSpace(verb + " " + table)
}

func operation(_ context.Context, method otelsql.Method, query string, _ []driver.NamedValue) []attribute.KeyValue {
	verb, table := verbAndTable(method, query)
	attrs := []attribute.KeyValue{semconv.DBQuerySummary(strings.TrimSpace(verb + " " + table))}
	if table != "" {
		attrs = append(attrs, semconv.DBCollectionName(table))
	}
	return attrs
}

// table finds what may be the table of a statement. What is followed by a parenthesis is a function.
var table = regexp.MustCompile(`\b(?:FROM|INTO|UPDATE|JOIN) (\w+)(\(?)`)

// verbAndTable returns what is done, and to which table first.
func verbAndTable(method otelsql.Method, query string) (verb, name string) {
	switch method {
	case otelsql.MethodConnBeginTx:
		return "BEGIN", ""
	case otelsql.MethodTxCommit:
		return "COMMIT", ""
	case otelsql.MethodTxRollback:
		return "ROLLBACK", ""
	}
	for _, found := range table.FindAllStringSubmatch(query, -1) {
		if found[2] == "" {
			verb, _, _ = strings.Cut(query, " ")
			return verb, found[1]
		}
	}
	return string(method), ""
}

// failure returns the attributes of a span whose statement failed. SQLite's result codes: https://www.sqlite.org/rescode.html.
func failure(err error) []attribute.KeyValue {
	var e *sqlite.Error
	if errors.As(err, &e) {
		code := strconv.Itoa(e.Code())
		return []attribute.KeyValue{semconv.DBResponseStatusCode(code), semconv.ErrorTypeKey.String(code)}
	}
	return []attribute.KeyValue{semconv.ErrorType(err)}
}
