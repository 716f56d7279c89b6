package lossd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	pb "lossd/lossdv1"
)

// An address is what gRPC takes for it, or an error that names the forms.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:50051": "passthrough:///127.0.0.1:50051", "localhost": "passthrough:///localhost:50051",
		"[::1]:7": "passthrough:///[::1]:7", "[::1]": "passthrough:///[::1]:50051", "dns:///losses.example:7": "dns:///losses.example:7",
		"dns:///losses.example": "dns:///losses.example:50051", "unix:/run/lossd.sock": "passthrough:///localhost",
	} {
		if target, _, err := targetOf(address); err != nil || target != want {
			t.Error(address, target, err)
		}
	}
	for _, address := range []string{"http://a:1", "a:1,b:1", "::1", "a:", ":1", "unix:", "a b:1", "/run/lossd.sock", "dns://a:1", "[::1", "a:1:2"} {
		if _, err := Dial(address, nil); !errors.Is(err, ErrInvalidArgument) || errorOf(t, err).Field != "address" {
			t.Error(address, err)
		}
	}
	t.Setenv("LOSSD_SERVER", "nowhere.example:1")
	if c := dial(t, "", nil); c.address != "nowhere.example:1" {
		t.Error(c.address)
	}
}

// Options that cannot be are an error of Dial.
func TestOptionsOfAClient(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	os.WriteFile(none, nil, 0o600)
	for _, o := range []Options{
		{Timeout: -1}, {ConnectTimeout: -1}, {MaxResponseBytes: -1}, {MaxResponseBytes: 1 << 31}, {Transport: 3}, {Token: "t"}, {Cert: "c"}, {Key: "k"},
		{CA: "no such file"}, {CA: none}, {TLS: true, Cert: none, Key: none}, {TLS: true, Cert: none},
	} {
		if _, err := Dial("losses.example:1", &o); !errors.Is(err, ErrInvalidArgument) {
			t.Error(o, err)
		}
	}
}

// Over TLS the server's certificate is checked, the client's own is sent, and the token too.
func TestTLS(t *testing.T) {
	leavesNothing(t)
	folder := t.TempDir()
	ca, caKey := certificate(t, folder, "ca", nil, nil)
	certificate(t, folder, "server", ca, caKey)
	certificate(t, folder, "client", ca, caKey)
	certificate(t, folder, "other", nil, nil)
	path := func(name string) string { return filepath.Join(folder, name) }
	pair, err := tls.LoadX509KeyPair(path("server.pem"), path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(ca)
	var token string
	f := &fake{unary: func(ctx context.Context, _ *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
		sent, _ := metadata.FromIncomingContext(ctx)
		token = sent.Get("authorization")[0]
		return answer(1), nil
	}}
	address := f.listen(t, "tcp", "127.0.0.1:0", grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted})))

	good := Options{CA: path("ca.pem"), Cert: path("client.pem"), Key: path("client.key"), Token: "t0"}
	if _, err := dial(t, address, &good).Evaluate(background, small); err != nil || token != "Bearer t0" {
		t.Error(err, token)
	}
	for name, o := range map[string]Options{"another CA": {CA: path("other.pem")}, "the system's": {TLS: true}, "no certificate": {CA: path("ca.pem")}, "no TLS": {}} {
		o.ConnectTimeout = 200 * time.Millisecond
		if _, err := dial(t, address, &o).Evaluate(background, small); !errors.Is(err, ErrUnavailable) {
			t.Error(name, err)
		}
	}
	t.Setenv("LOSSD_CA", good.CA)
	t.Setenv("LOSSD_CERT", good.Cert)
	t.Setenv("LOSSD_KEY", good.Key)
	t.Setenv("LOSSD_TOKEN", "t1")
	if _, err := dial(t, address, nil).Evaluate(background, small); err != nil || token != "Bearer t1" {
		t.Error(err, token)
	}
}

// certificate writes name.pem and name.key, signed by a CA or, without one, by itself.
func certificate(t *testing.T, folder, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: ca == nil,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ca == nil {
		ca, caKey = about, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, about, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := x509.MarshalECPrivateKey(key)
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: signed}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, _ := x509.ParseCertificate(signed)
	return parsed, key
}
