// Command dashboards writes the dashboards of dashboards/grafana: what they have in common, such as the colour of a code,
// the way to a trace and the variables, stands here once.
//
//	go generate ./dashboards
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

//go:generate go run . -out ../../dashboards/grafana

func main() {
	log.SetFlags(0)
	log.SetPrefix("dashboards: ")
	out := flag.String("out", "", "`folder` to write the dashboards to")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(*out, server(), client(), streams(), slo(), health()); err != nil {
		log.Fatal(err)
	}
}

// write writes each dashboard to a file that is named after its uid.
func write(dir string, boards ...board) error {
	for _, b := range boards {
		var content bytes.Buffer
		enc := json.NewEncoder(&content)
		enc.SetEscapeHTML(false) // people read it too
		enc.SetIndent("", "  ")
		if err := enc.Encode(b.render()); err != nil {
			return fmt.Errorf("%s: %w", b.uid, err)
		}
		if err := os.WriteFile(filepath.Join(dir, b.uid+".json"), content.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
