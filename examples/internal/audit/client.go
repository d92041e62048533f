package audit

import (
	"context"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	auditv1 "github.com/rpcscope/rpcscope/examples/gen/audit/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// Client is another service's way to the audit service. A nil Client keeps nothing, and knows of nothing.
type Client struct {
	conn    *grpc.ClientConn
	audit   auditv1.AuditServiceClient
	timeout time.Duration
	faults  *fault.Switch
}

// defaultTimeout is how long the audit service may take: much less than a caller is ready to wait for the whole.
const defaultTimeout = time.Second

// Dial returns a client of the audit service at address, each of whose calls takes no longer than timeout; 0: 1 s. It asks for
// the faults that faults has for "audit"; nil: for none.
func Dial(address string, timeout time.Duration, faults *fault.Switch, by observe.By, opts ...interceptors.ClientOption) (*Client, error) {
	if timeout == 0 {
		timeout = defaultTimeout
	}
	// Calls have a deadline when they come here, see outgoing; Timeout measures what they use of it.
	opts = append([]interceptors.ClientOption{interceptors.Timeout(timeout)}, opts...)
	conn, err := grpc.NewClient(address, append(interceptors.DialOptions(by.Client(opts...)...), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, audit: auditv1.NewAuditServiceClient(conn), timeout: timeout, faults: faults}, nil
}

// Close closes the connection.
func (c *Client) Close() error {
	if c == nil {
		return nil
	}
	return c.conn.Close()
}

// outgoing returns the context of a call to the audit service.
func (c *Client) outgoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.faults.Onward(ctx, "audit"), c.timeout)
}

// Record says that the caller of ctx is about to do action to subject.
func (c *Client) Record(ctx context.Context, action, subject string) error {
	if c == nil {
		return nil
	}
	actor := "anonymous"
	if id, ok := propagation.IdentityFromContext(ctx); ok && id.Verified() {
		actor = id.UserID
	}
	ctx, cancel := c.outgoing(ctx)
	defer cancel()
	_, err := c.audit.Record(ctx, &auditv1.RecordRequest{Actor: actor, Action: action, Subject: subject})
	return err
}

// Events returns what was done to subject, oldest first. It ends with the first error; ErrNoEvents says that nothing was.
func (c *Client) Events(ctx context.Context, subject string) iter.Seq2[*auditv1.Event, error] {
	return func(yield func(*auditv1.Event, error) bool) {
		if c == nil {
			yield(nil, ErrNoEvents.With("subject", subject))
			return
		}
		ctx, cancel := c.outgoing(ctx)
		defer cancel()
		stream, err := c.audit.ListEvents(ctx, &auditv1.ListEventsRequest{Subject: subject})
		for err == nil {
			var got *auditv1.ListEventsResponse
			if got, err = stream.Recv(); err == nil && !yield(got.GetEvent(), nil) {
				return
			}
		}
		if err != io.EOF {
			yield(nil, err)
		}
	}
}
