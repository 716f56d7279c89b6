package lossd

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
)

// RFC 6750, 2.1, without a bound; what else a header would take is no token that anybody makes.
var oneToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// More is no token: a header would not take it.
const mostTokenBytes = 16 << 10

// token is a bearer token, and the file that holds it, if it is in one. Where it may go is checked by security.
type token struct {
	path      string
	last      atomic.Pointer[string]
	encrypted bool
}

// token is nil where the options have none.
func (o *Options) token() (*token, error) {
	if o.Token == "" && o.TokenFile == "" {
		return nil, nil
	}
	t, secret := &token{path: o.TokenFile, encrypted: o.TLS}, o.Token
	if t.path != "" {
		var err error
		if secret, err = readToken(t.path); err != nil {
			return nil, err
		}
	}
	t.last.Store(&secret)
	return t, nil
}

// GetRequestMetadata is asked for every call and stream. The file is read each time: to ask whether it has changed would be
// wrong where it changes twice within the clock of the file system. One that has no token any more changes nothing, since
// whoever replaces it may leave it empty, or away, for a moment.
func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if t.path != "" {
		if secret, err := readToken(t.path); err == nil {
			t.last.Store(&secret)
		}
	}
	return map[string]string{"authorization": "Bearer " + *t.last.Load()}, nil
}

func (t *token) RequireTransportSecurity() bool { return t.encrypted }

// readToken is the token in a file, or an *Error that names the file and not what it holds.
func readToken(path string) (string, error) {
	refused := func(what string) error {
		return wrong("UNREADABLE", fmt.Sprintf("TokenFile = %q %s", path, what)).at("token_file")
	}
	file, err := os.Open(path)
	if err != nil {
		return "", refused("cannot be read: " + err.Error())
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, mostTokenBytes+1))
	if err != nil {
		return "", refused("cannot be read: " + err.Error())
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", refused("is empty")
	}
	if len(content) > mostTokenBytes || !oneToken.MatchString(secret) {
		return "", refused("holds something else than one token")
	}
	return secret, nil
}
