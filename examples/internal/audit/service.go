package audit

import (
	"context"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/rpcscope/rpcscope/examples/gen/audit/v1"
	"github.com/rpcscope/rpcscope/examples/internal/fault"
	"github.com/rpcscope/rpcscope/propagation"
)

const (
	maxAction = 64 // characters
	maxText   = 256
)

// Service implements audit.v1.AuditService.
type Service struct {
	auditv1.UnimplementedAuditServiceServer
	store  *Store
	faults fault.Injector
}

// New returns a service over s. faults may be nil.
func New(s *Store, faults fault.Injector) *Service { return &Service{store: s, faults: faults} }

// Record implements auditv1.AuditServiceServer.
func (s *Service) Record(ctx context.Context, req *auditv1.RecordRequest) (*auditv1.RecordResponse, error) {
	if err := s.faults.Inject(ctx); err != nil {
		return nil, err
	}
	if err := validate(req); err != nil {
		return nil, err
	}
	id, err := s.store.Add(ctx, Event{Actor: req.GetActor(), Action: req.GetAction(), Subject: req.GetSubject(), RequestID: propagation.RequestID(ctx)})
	if err != nil {
		return nil, err
	}
	return &auditv1.RecordResponse{Id: id}, nil
}

func validate(req *auditv1.RecordRequest) error {
	err := ErrInvalid
	check := func(field, value string, most int) {
		if n := utf8.RuneCountInString(value); n == 0 || n > most {
			err = err.WithField(field, "LENGTH", "want a text that is not empty, nor too long")
		}
	}
	check("actor", req.GetActor(), maxText)
	check("action", req.GetAction(), maxAction)
	check("subject", req.GetSubject(), maxText)
	if err == ErrInvalid {
		return nil
	}
	return err
}

// ListEvents implements auditv1.AuditServiceServer.
func (s *Service) ListEvents(req *auditv1.ListEventsRequest, stream grpc.ServerStreamingServer[auditv1.ListEventsResponse]) error {
	if err := s.faults.Inject(stream.Context()); err != nil {
		return err
	}
	none := true
	for e, err := range s.store.Of(stream.Context(), req.GetSubject()) {
		if err != nil {
			return err
		}
		if err := stream.Send(&auditv1.ListEventsResponse{Event: message(e)}); err != nil {
			return err
		}
		none = false
	}
	if none {
		return ErrNoEvents.With("subject", req.GetSubject())
	}
	return nil
}

func message(e Event) *auditv1.Event {
	return &auditv1.Event{Id: e.ID, Time: timestamppb.New(e.Time), Actor: e.Actor, Action: e.Action, Subject: e.Subject, RequestId: e.RequestID}
}
