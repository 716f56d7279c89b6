package lossd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	pb "lossd/lossdv1"
)

// showing is a server, and where it writes what its last call or stream showed of the caller.
func showing(t *testing.T) (address string, shown *string) {
	shown = new(string)
	remember := func(ctx context.Context) {
		sent, _ := metadata.FromIncomingContext(ctx)
		*shown = strings.Join(sent.Get("authorization"), ", ")
	}
	f := &fake{
		unary: func(ctx context.Context, _ *pb.CrossEntropyRequest) (*pb.CrossEntropyResponse, error) {
			remember(ctx)
			return answer(1), nil
		},
		stream: func(s pb.LossService_StreamServer) error {
			remember(s.Context())
			return opens(s, func(uint64) *pb.EvaluationResult { return good(1) })
		},
	}
	return f.serve(t), shown
}

func write(t *testing.T, path, content string) {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A token's file is read for every call and stream of a client; one that has no token any more changes nothing.
func TestTokenFile(t *testing.T) {
	leavesNothing(t)
	address, shown := showing(t)
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "first\n")
	c := dial(t, address, &Options{TokenFile: path})
	for i, want := range []string{"first", "other", "other", "other", "other", "last=="} {
		for _, name := range []string{"unary", "map"} {
			if i == 4 {
				os.Remove(path)
			} else {
				write(t, path, []string{"first\n", "other", "", "one\ntwo\n", "", "  last==\r\n"}[i])
			}
			if err := ways(c)[name](background); err != nil || *shown != "Bearer "+want {
				t.Error(name, want, *shown, err)
			}
		}
	}
}

// A file that has no token is named by Dial; what it holds is not told.
func TestUnusableTokenFiles(t *testing.T) {
	folder := t.TempDir()
	held := filepath.Join(folder, "held")
	refused := func(path, what string) {
		t.Helper()
		_, err := Dial("localhost", &Options{TokenFile: path})
		e := errorOf(t, err)
		if !errors.Is(e, ErrInvalidArgument) || e.Field != "token_file" || !strings.Contains(e.Message, path+`" `+what) || strings.Contains(e.Message, "secret") {
			t.Error(e)
		}
	}
	for content, what := range map[string]string{
		"": "is empty", "\n": "is empty", "secret\nsecret": "holds something else", "secret\x00": "holds something else",
		strings.Repeat("secret", 4000): "holds something else",
	} {
		write(t, held, content)
		refused(held, what)
	}
	refused(folder, "cannot be read")
	refused(filepath.Join(folder, "none"), "cannot be read")
}

// Token and TokenFile are one question: both are too many, either stands before both variables.
func TestTokenOrTokenFile(t *testing.T) {
	address, shown := showing(t)
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "held")
	asks := func(o *Options, want string) {
		t.Helper()
		if _, err := dial(t, address, o).Evaluate(background, small); err != nil || *shown != want {
			t.Error(*shown, err)
		}
	}
	refused := func(address string, o *Options) {
		t.Helper()
		if _, err := Dial(address, o); !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
	}
	refused(address, &Options{Token: "t0", TokenFile: path})
	refused("losses.example:1", &Options{TokenFile: path})
	t.Setenv("LOSSD_TOKEN_FILE", path)
	asks(nil, "Bearer held")
	asks(&Options{Token: "t0"}, "Bearer t0")
	t.Setenv("LOSSD_TOKEN", "t1")
	refused(address, nil)
	asks(&Options{TokenFile: path}, "Bearer held")
}
