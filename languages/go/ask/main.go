// Command ask makes one call, alone and in a stream, by whom and to whom the arguments or the environment say.
//
//	ask ADDRESS [ca=FILE] [cert=FILE key=FILE] [token=TOKEN | token_file=FILE] [tls=true]
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"lossd"
)

func main() {
	options := lossd.Options{Timeout: 3 * time.Second, ConnectTimeout: time.Second}
	for _, one := range os.Args[2:] {
		switch name, value, _ := strings.Cut(one, "="); name {
		case "ca":
			options.CA = value
		case "cert":
			options.Cert = value
		case "key":
			options.Key = value
		case "token":
			options.Token = value
		case "token_file":
			options.TokenFile = value
		case "tls":
			options.TLS = value == "true"
		}
	}
	if err := ask(os.Args[1], &options); err != nil {
		if e, ok := err.(*lossd.Error); ok {
			fmt.Println(e.Code, e.Reason, e.Message)
		} else {
			fmt.Println(err)
		}
		os.Exit(1)
	}
}

func ask(address string, options *lossd.Options) error {
	client, err := lossd.Dial(address, options)
	if err != nil {
		return err
	}
	defer client.Close()
	e := lossd.CrossEntropy(lossd.Float32([]float32{2, 0, -1, 0, 3, 0}, 2, 3), lossd.Int64([]int64{0, 1}, 2), nil)
	alone, err := client.Evaluate(context.Background(), e)
	if err != nil {
		return err
	}
	return client.Map(context.Background(), lossd.Slice([]lossd.Evaluation{e}), func(_ int, r *lossd.Result, err error) error {
		if err == nil {
			fmt.Printf("loss %.6f, streamed %.6f\n", alone.Loss.Value(), r.Loss.Value())
		}
		return err
	})
}
