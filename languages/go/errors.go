package lossd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "lossd/lossdv1"
)

// What a caller can do about an error: each *Error is one of these to errors.Is.
var (
	ErrInvalidArgument  = errors.New("lossd: fix the request")
	ErrTooLarge         = errors.New("lossd: send less") // is ErrInvalidArgument, too
	ErrOverloaded       = errors.New("lossd: the server is full for now")
	ErrUnavailable      = errors.New("lossd: the server cannot be reached, or is going away")
	ErrDeadlineExceeded = errors.New("lossd: allow more time") // is context.DeadlineExceeded, too
	ErrUnauthenticated  = errors.New("lossd: show who you are")
	ErrNotServed        = errors.New("lossd: this server has no such thing")
	ErrInternal         = errors.New("lossd: a fault of the server's")
)

const clientClosed = "CLIENT_CLOSED"

// Error is what a call returns when it fails. It says the same whether the status of a call, a Failure on a stream or
// this package found the fault.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is for programs: UPPER_SNAKE. Where no lossd server has spoken it is the code's name, or the cause.
	Reason string
	// Field is the option or tensor at fault, as on the wire ("label_smoothing"); often empty.
	Field string
	// Metadata has every variable of the message.
	Metadata map[string]string
	// RetryAfter is how long the server asks to wait.
	RetryAfter time.Duration
	// RequestID finds an internal error in the server's log.
	RequestID string

	passes  bool  // it has a RetryInfo: waiting helps
	server  bool  // a lossd server has said it
	context error // of the caller's context, where that is why
}

func (e *Error) Error() string { return "lossd: " + e.Message }

// Unwrap is context.Canceled or context.DeadlineExceeded where the call's time was over.
func (e *Error) Unwrap() error { return e.context }

// GRPCStatus makes status.Code and status.Convert understand it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// Is tells errors.Is which of the sentinels above it is.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrInvalidArgument:
		return e.Code == codes.InvalidArgument || e.Code == codes.OutOfRange || e.Code == codes.FailedPrecondition ||
			e.Code == codes.NotFound || e.Is(ErrTooLarge)
	case ErrTooLarge:
		return e.Code == codes.ResourceExhausted && !e.passes
	case ErrOverloaded:
		return e.Code == codes.ResourceExhausted && e.passes
	case ErrUnavailable:
		return e.Code == codes.Unavailable
	case ErrDeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case ErrUnauthenticated:
		return e.Code == codes.Unauthenticated || e.Code == codes.PermissionDenied
	case ErrNotServed:
		return e.Code == codes.Unimplemented
	case ErrInternal:
		return e.Code == codes.Internal || e.Code == codes.Unknown || e.Code == codes.DataLoss || e.Code == codes.Aborted
	}
	return false
}

// wrong is an InvalidArgument whose message goes on with what is wrong with a field: " has 3 dimensions …".
func wrong(reason, what string, metadata ...any) *Error {
	e := &Error{Code: codes.InvalidArgument, Reason: reason, Message: what, Metadata: map[string]string{}}
	for i := 0; i+1 < len(metadata); i += 2 {
		e.Metadata[fmt.Sprint(metadata[i])] = fmt.Sprint(metadata[i+1])
	}
	return e
}

func (e *Error) on(field string) *Error {
	named := *e
	named.Field, named.Message = field, field+e.Message
	return &named
}

// at is the error, whose message says it all, of a field.
func (e *Error) at(field string) *Error {
	e.Field = field
	return e
}

func malformed(what string) *Error {
	return &Error{Code: codes.Internal, Reason: "MALFORMED_ANSWER", Message: "an answer of the server's holds " + what}
}

func unavailable(reason, message string) *Error {
	return &Error{Code: codes.Unavailable, Reason: reason, Message: message}
}

// fromFailure is what a Failure on a stream says.
func fromFailure(f *pb.Failure) *Error {
	return fromStatus(status.FromProto(&spb.Status{Code: f.GetCode(), Message: f.GetMessage(), Details: f.GetDetails()}))
}

func fromStatus(s *status.Status) *Error {
	e := &Error{Code: s.Code(), Message: s.Message()}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata, e.RequestID = detail.GetReason(), detail.GetMetadata(), detail.GetMetadata()["request_id"]
			e.server = true
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				e.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			e.passes, e.RetryAfter = true, detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// What a status means that no lossd server has explained.
var onTheWay = map[codes.Code]string{
	codes.Unavailable:       "the server cannot be reached, or the connection to it was lost",
	codes.Canceled:          "the call was cancelled before its answer",
	codes.DeadlineExceeded:  "no answer within the deadline",
	codes.ResourceExhausted: "a limit was exceeded on the way, most likely that of a message's size",
	codes.Unimplemented:     "no such method is served: is it a lossd server of this version?",
	codes.Unauthenticated:   "the caller's identity is missing or was not accepted",
	codes.PermissionDenied:  "the caller is not permitted to do this",
}

// Why a server is not reached: words of the network's, the reason, a sentence about an address.
var unreachable = [][3]string{
	{"connection refused", "NOTHING_LISTENS", "nothing listens at %s; `lossd serve` starts a server"},
	{"no such file or directory", "NO_SOCKET", "there is no socket at %s; `lossd serve` starts a server"},
	{"permission denied", "NOT_PERMITTED", "this user may not connect to %s: whoever started the server may"},
	{"no such host", "NAME_NOT_FOUND", "the host name of %s is not found: is it spelled as the server's host is called?"},
	{"unknown authority", "UNKNOWN_AUTHORITY", "the certificate of %s is not signed by an authority that this client knows: give CA, the one that signed it"},
	{"expired or is not yet valid", "CERTIFICATE_OUT_OF_DATE", "the certificate of %s has expired, or is not valid yet: whoever runs the server renews it"},
	{"x509: ", "NOT_THAT_HOST", "the certificate of %s is for another host: use a name that it has"},
	{"remote error: tls: ", "CERTIFICATE_NOT_TAKEN", "%s ended the TLS handshake: does it want another certificate (Cert, Key)?"},
	{"first record does not look like a TLS handshake", "NO_TLS_THERE", "%s does not answer in TLS: a server without it wants neither TLS, CA nor Cert"},
	{"frame header looked like", "NOT_A_SERVER", "%s does not answer as a gRPC server: is it lossd's port?"},
}

// whyClosed is what a connection means that a server ended at its beginning: one that wants TLS, or a certificate, does so.
func (o *Options) whyClosed(address string) *Error {
	if !o.TLS {
		return unavailable("NOT_A_SERVER", address+" can be connected to, but it does not answer as a gRPC server: is it lossd's port, and does it want TLS (TLS, or CA)?")
	}
	if o.Cert == "" {
		return unavailable("CERTIFICATE_WANTED", address+" ended the TLS handshake. It seems to want a certificate from its clients: give Cert and Key")
	}
	return unavailable("CERTIFICATE_NOT_TAKEN", address+" ended the TLS handshake. It seems not to take this client's certificate: is Cert within its dates, and signed by an authority that the server knows?")
}

// What a caller has to give whom the server does not know, by the reason.
var toGive = map[string]string{
	"NO_CREDENTIALS": "; give Token or TokenFile (or LOSSD_TOKEN, LOSSD_TOKEN_FILE), or Cert and Key",
	"UNKNOWN_TOKEN":  "; does Token or TokenFile (or LOSSD_TOKEN, LOSSD_TOKEN_FILE) hold what `lossd token` printed for it?",
}

// explain is the Error of a failed call to address, of the caller's context ctx.
func explain(ctx context.Context, err error, address string) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	e := fromStatus(status.Convert(err))
	if e.Code == codes.DeadlineExceeded {
		e.context = context.DeadlineExceeded
	}
	if e.server {
		e.Message += toGive[e.Reason]
		return e
	}
	words := e.Message
	e.Reason = rpccode.Code(e.Code).String()
	meaning := onTheWay[e.Code]
	if meaning == "" {
		meaning = "the call failed, with status " + e.Code.String()
	}
	e.Message = fmt.Sprintf("%s: %s (%s)", address, meaning, words)
	if e.Code == codes.Unavailable {
		for _, one := range unreachable {
			if strings.Contains(words, one[0]) {
				e.Reason, e.Message = one[1], fmt.Sprintf(one[2], address)+" ("+words+")"
				break
			}
		}
	}
	if e.Code == codes.Canceled { // not by this caller: by a server that stops
		e.Code = codes.Unavailable
	}
	return e
}

func contextError(ctx context.Context) *Error {
	if ctx.Err() == context.Canceled {
		return &Error{Code: codes.Canceled, Reason: "CANCELLED", Message: "the caller cancelled the call", context: context.Canceled}
	}
	return &Error{Code: codes.DeadlineExceeded, Reason: "DEADLINE_EXCEEDED", Message: "no answer within the deadline", context: context.DeadlineExceeded}
}
