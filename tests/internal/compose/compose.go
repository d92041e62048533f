// Package compose reads the repository's compose files as docker compose does, without Docker.
package compose

import (
	"context"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// The compose files in the root of the repository.
const (
	File    = "docker-compose.yml"
	Overlay = "docker-compose.collector.yml" // on File: -f docker-compose.yml -f docker-compose.collector.yml
)

// Load returns the project in the repository at root, of File and the overlays in their order. Its paths are absolute, and
// the caller's environment is not seen.
func Load(ctx context.Context, root string, overlays ...string) (*types.Project, error) {
	contents := map[string][]byte{}
	for _, name := range append([]string{File}, overlays...) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		contents[name] = content
	}
	return Parse(ctx, root, contents, overlays...)
}

// Parse is Load of files that have other contents, by their names.
func Parse(ctx context.Context, root string, contents map[string][]byte, overlays ...string) (*types.Project, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	var files []types.ConfigFile
	for _, name := range append([]string{File}, overlays...) {
		files = append(files, types.ConfigFile{Filename: filepath.Join(dir, name), Content: contents[name]})
	}
	return loader.LoadWithContext(ctx, types.ConfigDetails{WorkingDir: dir, ConfigFiles: files, Environment: types.Mapping{}})
}
