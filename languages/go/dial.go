package lossd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"time"
	"unsafe"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Options of a client. Each may be left out, and nil is all of them left out.
type Options struct {
	// Timeout of a call whose context has no deadline: 60 s. Of one that streams: without progress.
	Timeout time.Duration
	// ConnectTimeout is how long a server is looked for that has never answered this client: 5 s.
	ConnectTimeout time.Duration
	// MaxResponseBytes is the largest message that this client takes: 2 GiB.
	MaxResponseBytes int
	// Transport is how requests are sent: as their size asks for.
	Transport Transport

	// TLS encrypts. It is implied by Cert, and by CA, a file of certificates to trust instead of the system's.
	TLS bool
	CA  string
	// Cert and Key are files: this client's own certificate.
	Cert, Key string
	// Token is sent with every call: only over TLS, to this host, or through a Unix socket.
	Token string
	// TokenFile holds it in its place, as secrets are mounted: the file is read for every call, so that a token that is
	// replaced needs no new client. It must have one when Dial is called.
	TokenFile string

	// GRPC is for what is not here: interceptors, another keepalive.
	GRPC []grpc.DialOption
}

// Transport is how a request is sent.
type Transport int

const (
	Auto   Transport = iota // below 8 MiB in one message, in blocks otherwise
	Unary                   // in one message, or not at all
	Stream                  // in blocks, or not at all
)

const (
	defaultServer  = "127.0.0.1:50051"
	defaultTimeout = 60 * time.Second
	connectTimeout = 5 * time.Second
	// A pair with the server's: it ends connections that are pinged more often than every 10 s.
	keepaliveTime, keepaliveTimeout = 60 * time.Second, 20 * time.Second
	// gRPC would start with 64 KiB: a round trip each.
	streamWindow, connectionWindow = 4 << 20, 16 << 20
)

// Dial makes a client of the server at "host:port", "host", "[IPv6]:port", "dns:///name:port" (every address of the name
// in turn) or "unix:path"; of LOSSD_SERVER, or 127.0.0.1:50051, if address is "". It does not wait for the server: the
// first call says if there is none. LOSSD_CA, LOSSD_CERT, LOSSD_KEY, LOSSD_TOKEN and LOSSD_TOKEN_FILE are options that are
// left out; Token or TokenFile stands before both of its variables.
func Dial(address string, options *Options) (*Client, error) {
	if one := uint16(1); *(*byte)(unsafe.Pointer(&one)) != 1 {
		return nil, wrong("BIG_ENDIAN", "lossd's tensors are little-endian, and this package does not convert them: this processor is big-endian")
	}
	o := *or(options)
	if o.Timeout < 0 || o.ConnectTimeout < 0 || o.MaxResponseBytes < 0 || o.MaxResponseBytes > math.MaxInt32 || o.Transport < Auto || o.Transport > Stream {
		return nil, wrong("OPTION_OUT_OF_RANGE", "Timeout and ConnectTimeout must not be negative, MaxResponseBytes must be from 0 to 2147483647, Transport one of the three")
	}
	o.Timeout = orElse(o.Timeout, defaultTimeout)
	o.ConnectTimeout = orElse(o.ConnectTimeout, connectTimeout)
	o.MaxResponseBytes = orElse(o.MaxResponseBytes, math.MaxInt32)
	address = orElse(orElse(address, os.Getenv("LOSSD_SERVER")), defaultServer)
	if !strings.HasPrefix(address, "unix:") { // which has no TLS
		o.CA, o.Cert, o.Key = orElse(o.CA, os.Getenv("LOSSD_CA")), orElse(o.Cert, os.Getenv("LOSSD_CERT")), orElse(o.Key, os.Getenv("LOSSD_KEY"))
	}
	if o.Token == "" && o.TokenFile == "" {
		o.Token, o.TokenFile = os.Getenv("LOSSD_TOKEN"), os.Getenv("LOSSD_TOKEN_FILE")
	}
	o.TLS = o.TLS || o.CA != "" || o.Cert != ""

	target, local, err := targetOf(address)
	if err != nil {
		return nil, err
	}
	security, err := o.security(local)
	if err != nil {
		return nil, err
	}
	shown, err := o.token()
	if err != nil {
		return nil, err
	}
	dial := []grpc.DialOption{
		security,
		grpc.WithDisableRetry(), // this package repeats calls itself
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.MaxResponseBytes), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 20 * time.Second,
		}),
	}
	if shown != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(shown))
	}
	if path := strings.TrimPrefix(address, "unix:"); path != address {
		dial = append(dial, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}))
	} else if strings.HasPrefix(target, "dns:") {
		dial = append(dial, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	}
	connection, err := grpc.Dial(target, append(dial, o.GRPC...)...)
	if err != nil {
		return nil, wrong("MALFORMED_ADDRESS", fmt.Sprintf("%q: %v", address, err))
	}
	return newClient(connection, address, o), nil
}

func orElse[T comparable](value, otherwise T) T {
	if value == *new(T) {
		return otherwise
	}
	return value
}

// targetOf is the address as gRPC takes it, and whether it is on this host for certain.
func targetOf(address string) (target string, local bool, err error) {
	malformed := wrong("MALFORMED_ADDRESS", fmt.Sprintf("%q is no address: it is host:port, host (port 50051), [IPv6]:port, dns:///name:port or unix:path", address)).at("address")
	if path := strings.TrimPrefix(address, "unix:"); path != address {
		if path == "" {
			return "", false, malformed
		}
		return "passthrough:///localhost", true, nil
	}
	scheme, rest := "passthrough:///", strings.TrimPrefix(address, "dns:///")
	if rest != address {
		scheme = "dns:///"
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil { // there is no port
		host, port = rest, "50051"
		if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
			host = rest[1 : len(rest)-1]
		} else if strings.Contains(rest, ":") {
			return "", false, malformed
		}
	}
	if host == "" || port == "" || strings.ContainsAny(host+port, "/, \t\n[]") {
		return "", false, malformed
	}
	ip := net.ParseIP(host)
	return scheme + net.JoinHostPort(host, port), host == "localhost" || (ip != nil && ip.IsLoopback()), nil
}

// security is how calls are encrypted, if they are. local: the server is on this host.
func (o *Options) security(local bool) (grpc.DialOption, error) {
	if (o.Cert == "") != (o.Key == "") {
		return nil, wrong("OPTION_NOT_TAKEN", "Cert and Key go together: give both").at("cert")
	}
	if o.Token != "" && o.TokenFile != "" {
		return nil, wrong("OPTION_NOT_TAKEN", "give Token or TokenFile (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both").at("token_file")
	}
	if !o.TLS {
		if (o.Token != "" || o.TokenFile != "") && !local {
			return nil, wrong("TOKEN_NEEDS_TLS", "a token is sent over TLS, to this host or through a Unix socket: set TLS or CA").at("token")
		}
		return grpc.WithInsecure(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, wrong("UNREADABLE", "CA cannot be read: "+err.Error()).at("ca")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, wrong("UNREADABLE", o.CA+" holds no certificate in PEM").at("ca")
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, wrong("UNREADABLE", "Cert and Key cannot be used: "+err.Error()).at("cert")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(config)), nil
}
