package errors_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever the toolchain's errors package exports, this one does, with the same
// signature, so that an import can be replaced.
func TestParityWithStandardLibrary(t *testing.T) {
	std := exported(t, filepath.Join(build.Default.GOROOT, "src", "errors"))
	if len(std) < 7 {
		t.Fatalf("found only %v in the standard library", std)
	}
	ours := exported(t, ".")
	same := map[string]string{}
	for name := range std {
		if signature, ok := ours[name]; ok {
			same[name] = signature
		}
	}
	if diff := cmp.Diff(std, same); diff != "" {
		t.Errorf("-standard library +this package:\n%s", diff)
	}
}

// exported are the exported functions of the package in dir with their
// signature, and its other exported names.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil && decl.Name.IsExported() {
					var b strings.Builder
					if err := printer.Fprint(&b, set, decl.Type); err != nil {
						t.Fatal(err)
					}
					found[decl.Name.Name] = b.String()
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							if name.IsExported() {
								found[name.Name] = decl.Tok.String()
							}
						}
					case *ast.TypeSpec:
						if spec.Name.IsExported() {
							found[spec.Name.Name] = "type"
						}
					}
				}
			}
		}
	}
	return found
}
