package web

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed page
var files embed.FS

var index = template.Must(template.ParseFS(files, "page/index.html"))

// assets serves what the page loads.
var assets = func() http.Handler {
	dir, err := fs.Sub(files, "page/assets")
	if err != nil {
		panic(err) // the embedded folder is there, or this does not build
	}
	return http.StripPrefix("/assets/", http.FileServerFS(dir))
}()

func (a *App) page(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	_ = index.Execute(w, a.cfg) // the client is gone; there is nobody to tell
}
