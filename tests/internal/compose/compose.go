// Package compose reads the repository's compose file as docker compose does, without Docker.
package compose

import (
	"context"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// File is the compose file's name in the root of the repository.
const File = "docker-compose.yml"

// Load returns the project in the repository at root. Its paths are absolute, and the caller's environment is not seen.
func Load(ctx context.Context, root string) (*types.Project, error) {
	content, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		return nil, err
	}
	return Parse(ctx, root, content)
}

// Parse is Load of a file that has another content.
func Parse(ctx context.Context, root string, content []byte) (*types.Project, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, File), Content: content}},
		Environment: types.Mapping{},
	})
}
