package live

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goBlock is a block of Go on the page, and what it prints, if that stands below it.
var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```\n(?:```text\n(.*?)```\n)?")

// around is what a block that is no program stands in: the body of a function that returns an error.
const around = `package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"lossd"
)

var _ = []any{errors.As, fmt.Println, os.Open, time.Second}

func example(ctx context.Context, client *lossd.Client, logits, target *lossd.Tensor) error {
%s
	return nil
}

func main() {
	client, err := lossd.Dial("127.0.0.1:50051", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	logits, target := lossd.Float32([]float32{2, 1, 0.1, 0, 3, 0.2}, 2, 3), lossd.Int([]int{0, 1}, 2)
	if err := example(context.Background(), client, logits, target); err != nil {
		log.Fatal(err)
	}
}
`

// The Go on docs/languages/go.md compiles, runs and prints what the page says.
func TestPage(t *testing.T) {
	server(t, nil)
	path := os.Getenv("LOSSD_TEST_PAGE")
	if path == "" {
		t.Skip("LOSSD_TEST_PAGE names no page")
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := goBlock.FindAllStringSubmatch(string(page), -1)
	if len(found) < 5 {
		t.Fatalf("only %d blocks on the page", len(found))
	}
	folder := t.TempDir()
	for i, block := range found {
		program, prints := block[1], block[2]
		if !strings.HasPrefix(program, "package main") {
			program = fmt.Sprintf(around, program)
		}
		program = strings.ReplaceAll(program, "127.0.0.1:50051", os.Getenv("LOSSD_TEST_ADDRESS"))
		path := filepath.Join(folder, fmt.Sprintf("example%d.go", i))
		if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, failed bytes.Buffer
		run := exec.Command("go", "run", path)
		run.Dir, run.Stdout, run.Stderr = folder, &out, &failed
		if err := run.Run(); err != nil {
			t.Errorf("block %d: %v\n%s\n%s", i, err, failed.String(), block[1])
		} else if out.String() != prints {
			t.Errorf("block %d prints\n%snot\n%s", i, out.String(), prints)
		}
	}
}
